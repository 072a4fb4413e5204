"""Exports: what must outlive the database, kept apart from it as signed statements that are never replaced.

    erasure-USER                      an erasure: tenant, lookup, user, time; replayed over a restored backup
    checkpoint-MICROS-SEQ-HASH        how far the audit chain had come, and its hash there
    restored-MICROS-SEQ-HASH          that a backup was put back whose chain ends there
    keys-EPOCH-MICROS-PART            the data keys as they are wrapped since an epoch roll, for backups made before it

A lookup is an HMAC under the tenant's key, and wrapped keys open under the key ring only: an export tells
nobody anything without the ring.
"""

import base64
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from storage import statements
from storage.blobs import Blobs
from storage.errors import BlobTaken, ExportsForeign
from storage.statements import Signs, micros, moment

ERASURE, CHECKPOINT, RESTORED, KEYS = "erasure-", "checkpoint-", "restored-", "keys-"
NEWEST = 100
KEYS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Erased:
    """One erasure. `lookup` is how the tenant found the user, in hex."""

    tenant: str
    lookup: str = field(repr=False)
    user: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The audit chain had `seq` entries and ended in `hash`, as it was at `at`."""

    seq: int
    hash: bytes
    at: datetime

    @property
    def facts(self) -> statements.Facts:
        return {"kind": "checkpoint", "seq": self.seq, "hash": self.hash.hex(), "at": micros(self.at)}

    @property
    def name(self) -> str:
        return f"{micros(self.at):020d}-{self.seq:012d}-{self.hash[:8].hex()}"


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as its row has it."""

    owner: str
    key_id: bytes
    generation: int
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Told:
    """What the exports say of the audit chain: the newest checkpoints, every restore, and statements that are not ours.

    `names` are those of all checkpoints.
    """

    checkpoints: tuple[Checkpoint, ...]
    restored: tuple[Checkpoint, ...]
    foreign: int
    names: frozenset[str]


class Exports:
    """A place for exports, written with the ring's signing key."""

    def __init__(self, place: Blobs, signer: Signs) -> None:
        self.place, self._signer = place, signer
        self._pending: set[str] = set()
        self._guard = threading.Lock()

    @property
    def pending(self) -> frozenset[str]:
        """Users whose erasure is known here and not exported."""
        with self._guard:
            return frozenset(self._pending)

    def await_export(self, users: Iterable[str]) -> None:
        with self._guard:
            self._pending.update(users)

    def keep_erasure(self, erased: Erased) -> None:
        """Raises BlobsAway, BlobsRefused or DiskFailed; the same again is harmless."""
        facts = {"tenant": erased.tenant, "lookup": erased.lookup, "user": erased.user, "at": micros(erased.at)}
        with suppress(BlobTaken):  # told before, with the lookup that the user had then
            self.place.put(ERASURE + erased.user, statements.dumps(self._signer, {"kind": "erasure", **facts}))
        with self._guard:
            self._pending.discard(erased.user)

    def erased(self) -> list[str]:
        """Every user of whom an erasure was exported."""
        return [name.removeprefix(ERASURE) for name in self.place.names(ERASURE)]

    def erasure(self, user: str) -> Erased:
        """Raises ExportsForeign when another key has signed it."""
        facts = statements.loads(self._signer.public, self.place.get(ERASURE + user))
        if facts is None or facts.get("kind") != "erasure" or facts.get("user") != user:
            raise ExportsForeign(self.place.place, ERASURE + user)
        return Erased(str(facts["tenant"]), str(facts["lookup"]), user, moment(facts["at"]))

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.place.put(CHECKPOINT + checkpoint.name, statements.dumps(self._signer, checkpoint.facts))

    def keep_restored(self, reached: Checkpoint) -> None:
        """Note that a backup was put back whose chain ends in `reached`: what was exported before is past it."""
        facts = {**reached.facts, "kind": "restored"}
        self.place.put(RESTORED + reached.name, statements.dumps(self._signer, facts))

    def keep_keys(self, epoch: int, at: datetime, keys: Sequence[WrappedKey]) -> None:
        """Keep all wrapped keys of an epoch, in parts; the end is noted last."""
        for part, start in enumerate(range(0, len(keys), KEYS_AT_ONCE)):
            rows = keys[start : start + KEYS_AT_ONCE]
            content = "\n".join(json.dumps(_key_row(each), separators=(",", ":")) for each in rows)
            self.place.put(f"{KEYS}{epoch:010d}-{micros(at):020d}-{part:06d}", content.encode("ascii"))
        with suppress(BlobTaken):  # another daemon's
            self.place.put(f"{KEYS}{epoch:010d}-end", str(len(keys)).encode("ascii"))

    def has_keys(self, epoch: int) -> bool:
        return bool(self.place.names(f"{KEYS}{epoch:010d}-end"))

    def keys(self, epoch: int) -> Iterator[WrappedKey]:
        """The keys that were kept of `epoch`. They need no signature: each opens at its own place only."""
        for name in self.place.names(f"{KEYS}{epoch:010d}-"):
            if name.endswith("-end"):
                continue
            for line in self.place.get(name).splitlines():
                owner, key_id, generation, wrapped = json.loads(line)
                yield WrappedKey(owner, bytes.fromhex(key_id), generation, base64.b64decode(wrapped))

    def told(self) -> Told:
        return told(self.place, self._signer.public)


def told(place: Blobs, public: bytes) -> Told:
    """What `place` says of the audit chain, checked with the public key alone.

    The newest checkpoints are enough: the hash of one covers every entry before it.
    """
    names = place.names(CHECKPOINT)
    checkpoints = [_checkpoint(public, place.get(name), "checkpoint") for name in names[-NEWEST:]]
    restored = [_checkpoint(public, place.get(name), "restored") for name in place.names(RESTORED)]
    found = [each for each in checkpoints if each is not None], [each for each in restored if each is not None]
    foreign = len(checkpoints) + len(restored) - len(found[0]) - len(found[1])
    return Told(tuple(found[0]), tuple(found[1]), foreign, frozenset(name.removeprefix(CHECKPOINT) for name in names))


def _checkpoint(public: bytes, content: bytes, kind: str) -> Checkpoint | None:
    facts = statements.loads(public, content)
    if facts is None or facts.get("kind") != kind or not isinstance(seq := facts.get("seq"), int):
        return None
    return Checkpoint(seq, bytes.fromhex(str(facts.get("hash"))), moment(facts.get("at")))


def _key_row(key: WrappedKey) -> list[object]:
    return [key.owner, key.key_id.hex(), key.generation, base64.b64encode(key.wrapped).decode("ascii")]
