"""The audit log: a hash chain, extended in the same transaction as what it tells.

    hash = SHA-256("plora/audit/1" || 0x00 || previous hash || each field of the entry as length 4 || UTF-8)

An entry names users by their internal id only, so the chain still verifies after a user is forgotten. `audit_head`
holds the newest number and hash under an HMAC of the key ring: it shows that entries at the end are missing, and
that the whole chain was written anew by somebody who has the database and not the keys. Somebody who puts back an older
copy of the whole database is only found by comparing with a checkpoint exported earlier (storage/verifying.py).
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Connection, insert, select, type_coerce, update

from storage.columns import START
from storage.tables import audit, audit_head

LABEL = b"plora/audit/1\x00"
HEAD_LABEL = b"plora/audit-head/1\x00"
FIRST = bytes(32)
HEAD = 1
BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Entry:
    """Who did what to what, and how it ended. `object` is an internal id; nothing here may identify a user."""

    tenant: str
    actor: str
    action: str
    object: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry, as the database has it, and the HMAC over both."""

    seq: int
    hash: bytes
    mac: bytes

    def authentic(self, key: bytes) -> bool:
        return hmac.compare_digest(self.mac, _mac(key, self.seq, self.hash))


def append(connection: Connection, key: bytes, entries: Sequence[Entry], now: datetime) -> None:
    """Chain `entries`, in their order, to the newest one."""
    if not entries:
        return
    head = connection.execute(select(audit_head).where(audit_head.c.id == HEAD).with_for_update()).one_or_none()
    seq, previous = (0, FIRST) if head is None else (head.seq, head.hash)
    at = _micros(now)
    rows = []
    for entry in entries:
        seq += 1
        told = (entry.tenant, entry.actor, entry.action, entry.object, entry.outcome)
        digest = _digest(previous, seq, at, told)
        rows.append(asdict(entry) | {"seq": seq, "at": now, "prev": previous, "hash": digest})
        previous = digest
    connection.execute(insert(audit), rows)
    newest = {"seq": seq, "hash": previous, "mac": _mac(key, seq, previous)}
    if head is None:
        connection.execute(insert(audit_head).values(id=HEAD, **newest))
    else:
        connection.execute(update(audit_head).where(audit_head.c.id == HEAD).values(**newest))


def head_of(connection: Connection, *, lock: bool = False) -> Head | None:
    """None while the log is empty, or when its head is gone."""
    query = select(audit_head).where(audit_head.c.id == HEAD)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else Head(row.seq, row.hash, row.mac)


class Walk:
    """A walk along the chain from its first entry. It remembers the hash at each of the `wanted` numbers."""

    def __init__(self, wanted: Iterable[int] = ()) -> None:
        self._wanted = frozenset(wanted)
        self.seq, self.hash = 0, FIRST
        self.seen = {0: FIRST}
        self.broken = False

    def step(self, connection: Connection) -> bool:
        """Follow the next entries. False at the end, or where one does not fit: the walk stands before it."""
        at = type_coerce(audit.c.at, BigInteger)  # the number itself: making times of them took half of the walk
        columns = (audit.c[name] for name in ("tenant", "actor", "action", "object", "outcome", "prev", "hash"))
        query = select(audit.c.seq, at, *columns).order_by(audit.c.seq).limit(BATCH)
        if self.seq:
            query = query.where(audit.c.seq > self.seq)
        count = 0
        for seq, micros, *told, prev, digest in connection.execute(query):
            if seq != self.seq + 1 or prev != self.hash or digest != _digest(prev, seq, micros, told):
                self.broken = True
                return False
            self.seq, self.hash = seq, digest
            if seq in self._wanted:
                self.seen[seq] = digest
            count += 1
        return count == BATCH


def _digest(previous: bytes, seq: int, micros: int, told: Sequence[object]) -> bytes:
    # `told` are texts; what somebody else has put into their columns must not fail to be found by failing to encode.
    parts = [LABEL, previous]
    for each in (seq, micros, *told):
        text = str(each).encode("utf-8", "surrogatepass")
        parts.append(len(text).to_bytes(4, "big"))
        parts.append(text)
    return hashlib.sha256(b"".join(parts)).digest()


def _micros(at: datetime) -> int:
    moment = at - START
    return (moment.days * 86_400 + moment.seconds) * 1_000_000 + moment.microseconds


def _mac(key: bytes, seq: int, digest: bytes) -> bytes:
    return hmac.digest(key, HEAD_LABEL + seq.to_bytes(8, "big") + digest, "sha256")
