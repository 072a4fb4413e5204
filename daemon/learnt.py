"""What a version has learnt: its statistics with the examples they cover, as one document that storage seals.

    "PLD1" | u32 count | count times u64 seq | statistics            all big-endian

The store does not know the format, and the library does not know events.
"""

import struct
from dataclasses import dataclass, field

MAGIC = b"PLD1"
_COUNT = struct.Struct(">4sI")


@dataclass(frozen=True, slots=True)
class Learnt:
    """The seqs of the examples that `statistics` cover."""

    seqs: tuple[int, ...]
    statistics: bytes = field(repr=False)


def dumps(learnt: Learnt) -> bytes:
    """The document."""
    count = len(learnt.seqs)
    return _COUNT.pack(MAGIC, count) + struct.pack(f">{count}Q", *learnt.seqs) + learnt.statistics


def loads(document: bytes) -> Learnt | None:
    """The reverse; None for what another release wrote, after which a fit begins anew."""
    if len(document) < _COUNT.size:
        return None
    magic, count = _COUNT.unpack_from(document)
    end = _COUNT.size + 8 * count
    if magic != MAGIC or len(document) < end:
        return None
    return Learnt(struct.unpack_from(f">{count}Q", document, _COUNT.size), document[end:])
