"""Statements: facts that others keep and can check with a public key alone.

    signature = Ed25519("plora/statement/1" || 0x00 || the facts as canonical JSON)

Canonical JSON has its names sorted, no spaces, ASCII only. Facts are texts, whole numbers, None, and lists of those;
times are microseconds since 1970. A statement is that JSON with one name more: `signature`, in hex.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from storage.columns import START
from storage.errors import BadRecord

LABEL = b"plora/statement/1\x00"
Facts = Mapping[str, object]


class Signs(Protocol):
    """What signs statements: the key ring's signing key."""

    @property
    def public(self) -> bytes: ...
    def sign(self, message: bytes) -> bytes: ...


def signature_of(signer: Signs, facts: Facts) -> bytes:
    """64 bytes."""
    return signer.sign(LABEL + _canonical(facts))


def holds(public: bytes, facts: Facts, signature: bytes) -> bool:
    """Whether `signature` was made of these very facts by the holder of the key. Raises BadRecord for no public key."""
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
    except ValueError:
        raise BadRecord("public key", "32 bytes") from None
    try:
        key.verify(signature, LABEL + _canonical(facts))
    except InvalidSignature:
        return False
    return True


def dumps(signer: Signs, facts: Facts) -> bytes:
    """The signed statement; the same facts under the same key are the same bytes."""
    return _canonical({**facts, "signature": signature_of(signer, facts).hex()})


def loads(public: bytes, content: bytes) -> dict[str, object] | None:
    """The facts of a statement; None when it is none, or another key signed it, or it was altered."""
    try:
        facts = json.loads(content)
        signature = bytes.fromhex(facts.pop("signature"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return facts if holds(public, facts, signature) else None


def micros(at: datetime | None) -> int | None:
    """A time as statements have it."""
    return None if at is None else (at - START) // timedelta(microseconds=1)


def moment(at: object) -> datetime:
    """The time in a statement. Raises BadRecord."""
    if not isinstance(at, int):
        raise BadRecord("time", "microseconds since 1970")
    return START + timedelta(microseconds=at)


def _canonical(facts: Facts) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
