"""An answer told in parts: sealed frames in a stream, of which none can be left out, moved or cut off unnoticed.

    frame = u32 length of what follows | u8 1 if it is the last, else 0 | sealed document

A frame's place, its number from 0 and whether it is the last, is part of what its seal holds together. Big-endian.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from daemon.transport import Head, seal_frame, unseal_frame
from storage.sealing import Unreadable

_HEAD = struct.Struct(">IB")
_PLACE = struct.Struct(">QB")
MAX_FRAME_BYTES = 1 << 22


@dataclass(slots=True)
class FrameWriter:
    """Seals the parts of the answer to one request, in order."""

    key: bytes = field(repr=False)
    head: Head
    number: int = 0

    def frame(self, document: bytes, *, last: bool) -> bytes:
        """The next part."""
        sealed = seal_frame(self.key, self.head, _PLACE.pack(self.number, last), document)
        self.number += 1
        return _HEAD.pack(len(sealed) + 1, last) + sealed


def read_frames(key: bytes, head: Head, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The documents of an answer, as its bytes come in. Raises Unreadable where they are not that, whole."""
    buffer, number = bytearray(), 0
    for chunk in chunks:
        buffer += chunk
        while (size := _whole(buffer)) is not None:
            _, last = _HEAD.unpack_from(buffer)
            sealed = bytes(buffer[_HEAD.size : size])
            del buffer[:size]
            yield unseal_frame(key, head, _PLACE.pack(number, last), sealed)
            number += 1
            if last:
                return
    raise Unreadable("the answer")


def _whole(buffer: bytearray) -> int | None:
    """How long the first frame is, if it is all there. Raises Unreadable for what can be none."""
    if len(buffer) < _HEAD.size:
        return None
    length, last = _HEAD.unpack_from(buffer)
    if not 1 <= length <= MAX_FRAME_BYTES or last > 1:
        raise Unreadable("the answer")
    size = _HEAD.size - 1 + int(length)
    return size if len(buffer) >= size else None
