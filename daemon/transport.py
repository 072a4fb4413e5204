"""How work travels to a Trainer and back: sealed under the transport key and bound to what it is about.

    envelope = "PLORAWK1" | u32 length of head | head | sealed body
    head     = canonical JSON of purpose, request id, number of the transport key, and claims: [[run, epoch], ...]
    body     = u32 length of document | document (JSON) | attachment

The head is readable on the way, so that a proxy's log can be traced to a run; the seal's context holds it together
with the direction. A request therefore opens only as the request it is, and an answer only as the answer to it:
a body moved to another run, epoch, purpose or request does not open. Lengths are big-endian.

Transport keys have numbers (storage/transport_keys.py). A request is sealed under the newest number that the daemon
has, and its answer under the number of the request. A Trainer opens under any number whose file it has at that moment.
To a request under another it answers 409 {"code": "key_unknown", "newest": N} and has done nothing. Where the daemon
has N it seals the request again under N, once; else it asks again later. So keys may reach daemon and Trainers in any
order, and a roll that overtakes a request costs a round trip. N is not authenticated: who forges it can have a request
sealed under an older key that has not been rolled yet, and learns nothing by it.
"""

import hashlib
import json
import struct
import uuid
from dataclasses import dataclass, field
from enum import Enum

from storage.sealing import Unreadable, seal_message, unseal_message
from storage.transport_keys import FIRST

MAGIC = b"PLORAWK1"
MAX_HEAD_BYTES = 1 << 20
KEY_UNKNOWN = 409
_LENGTH = struct.Struct(">I")


class Purpose(Enum):
    """What a Trainer can be asked to do; the value is its route."""

    FIT = "fit"
    BASIS = "basis"
    SHARD = "shard"
    PREDICT = "predict"
    GENERATE = "generate"


class Direction(Enum):
    """Which way a body travels."""

    REQUEST = b"request"
    ANSWER = b"answer"
    FRAME = b"frame"


@dataclass(frozen=True, slots=True)
class Head:
    """What a request is about, in the open. `claims` are pairs of run (or Basis) and epoch; `key` a number."""

    purpose: Purpose
    request: str
    claims: tuple[tuple[str, int], ...] = ()
    key: int = FIRST

    def encode(self) -> bytes:
        """The one JSON form of this head."""
        claims = [list(claim) for claim in self.claims]
        fields = {"purpose": self.purpose.value, "request": self.request, "claims": claims, "key": self.key}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Body:
    """What is sealed: a JSON document and at most one large value."""

    document: bytes = field(repr=False)
    attachment: bytes = field(default=b"", repr=False)


def head_of(purpose: Purpose, claims: tuple[tuple[str, int], ...] = ()) -> Head:
    """The head of a new request, with an id of its own."""
    return Head(purpose, uuid.uuid4().hex, claims)


def seal_request(key: bytes, head: Head, body: Body) -> bytes:
    """The envelope of a request."""
    encoded = head.encode()
    return MAGIC + _LENGTH.pack(len(encoded)) + encoded + _seal(key, encoded, Direction.REQUEST, body)


def unseal_request(key: bytes, envelope: bytes) -> tuple[Head, Body]:
    """The reverse. Raises Unreadable for anything that was not sealed as exactly this request."""
    encoded, sealed = _split(envelope)
    body = _unseal(key, encoded, Direction.REQUEST, sealed)
    return _decode(encoded), body


def key_named(envelope: bytes) -> int:
    """The number of the key that a request says it is under. Raises Unreadable for what is no request."""
    return _decode(_split(envelope)[0]).key


def seal_answer(key: bytes, head: Head, body: Body) -> bytes:
    """The sealed body of the answer to the request that `head` heads."""
    return _seal(key, head.encode(), Direction.ANSWER, body)


def unseal_answer(key: bytes, head: Head, sealed: bytes) -> Body:
    """The reverse. Raises Unreadable unless it is the answer to this very request."""
    return _unseal(key, head.encode(), Direction.ANSWER, sealed)


def seal_frame(key: bytes, head: Head, place: bytes, document: bytes) -> bytes:
    """One part of an answer that is told in parts, sealed to its `place` among them."""
    return seal_message(key, _context(head.encode(), Direction.FRAME) + place, document)


def unseal_frame(key: bytes, head: Head, place: bytes, sealed: bytes) -> bytes:
    """The reverse. Raises Unreadable unless it is the part at this very place of the answer to this very request."""
    return unseal_message(key, _context(head.encode(), Direction.FRAME) + place, sealed)


def encode_unknown(newest: int) -> bytes:
    """The answer, in the open, that a key is not known; `newest` is."""
    return json.dumps({"code": "key_unknown", "newest": newest}).encode()


def decode_unknown(content: bytes) -> int:
    """The newest number that a Trainer told; 0 where it told none."""
    try:
        newest = json.loads(content)["newest"]
    except (ValueError, KeyError, TypeError):
        return 0
    return newest if type(newest) is int else 0


def _split(envelope: bytes) -> tuple[bytes, bytes]:
    start = len(MAGIC) + _LENGTH.size
    if len(envelope) < start or not envelope.startswith(MAGIC):
        raise Unreadable("the request")
    (length,) = _LENGTH.unpack_from(envelope, len(MAGIC))
    if length > MAX_HEAD_BYTES or len(envelope) < start + length:
        raise Unreadable("the request")
    return envelope[start : start + length], envelope[start + length :]


def _seal(key: bytes, head: bytes, direction: Direction, body: Body) -> bytes:
    plain = _LENGTH.pack(len(body.document)) + body.document + body.attachment
    return seal_message(key, _context(head, direction), plain)


def _unseal(key: bytes, head: bytes, direction: Direction, sealed: bytes) -> Body:
    plain = unseal_message(key, _context(head, direction), sealed)
    if len(plain) < _LENGTH.size:
        raise Unreadable("the request")
    (length,) = _LENGTH.unpack_from(plain)
    end = _LENGTH.size + length
    if end > len(plain):
        raise Unreadable("the request")
    return Body(plain[_LENGTH.size : end], plain[end:])


def _context(head: bytes, direction: Direction) -> bytes:
    return MAGIC + direction.value + hashlib.sha256(head).digest()  # a head may be longer than a context


def _decode(encoded: bytes) -> Head:
    try:
        fields = json.loads(encoded)
        claims = tuple((str(claimed), int(epoch)) for claimed, epoch in fields["claims"])
        head = Head(Purpose(fields["purpose"]), str(fields["request"]), claims, int(fields["key"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise Unreadable("the request") from error
    if head.encode() != encoded:
        raise Unreadable("the request")
    return head
