"""The audit log: a hash chain, extended in the same transaction as what it tells.

    hash = SHA-256("plora/audit/1" || 0x00 || previous hash || each field of the entry as length 4 || UTF-8)

An entry names users by their internal id only, so the chain still verifies after a user is forgotten. `audit_head`
holds the newest number and hash under an HMAC of the key ring: it shows that entries at the end are missing, and
that the whole chain was written anew by somebody who has the database and not the keys. Somebody who puts back an older
copy of the whole database is only found by comparing with a head exported earlier.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from storage.records import AuditReport
from storage.tables import START, audit, audit_head

LABEL = b"plora/audit/1\x00"
HEAD_LABEL = b"plora/audit-head/1\x00"
FIRST = bytes(32)
HEAD = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """Who did what to what, and how it ended. `object` is an internal id; nothing here may identify a user."""

    tenant: str
    actor: str
    action: str
    object: str
    outcome: str


def append(connection: Connection, key: bytes, entries: Sequence[Entry], now: datetime) -> None:
    """Chain `entries`, in their order, to the newest one."""
    if not entries:
        return
    head = connection.execute(select(audit_head).where(audit_head.c.id == HEAD).with_for_update()).one_or_none()
    seq, previous = (0, FIRST) if head is None else (head.seq, head.hash)
    rows = []
    for entry in entries:
        seq += 1
        digest = _digest(previous, seq, now, entry)
        rows.append(asdict(entry) | {"seq": seq, "at": now, "prev": previous, "hash": digest})
        previous = digest
    connection.execute(insert(audit), rows)
    newest = {"seq": seq, "hash": previous, "mac": _mac(key, seq, previous)}
    if head is None:
        connection.execute(insert(audit_head).values(id=HEAD, **newest))
    else:
        connection.execute(update(audit_head).where(audit_head.c.id == HEAD).values(**newest))


def verify(connection: Connection, key: bytes) -> AuditReport:
    """Walk the whole chain. Stops at the first entry that does not fit."""
    previous, seq = FIRST, 0
    for row in connection.execute(select(audit).order_by(audit.c.seq).execution_options(yield_per=1000)):
        entry = Entry(row.tenant, row.actor, row.action, row.object, row.outcome)
        fits = row.seq == seq + 1 and row.prev == previous and row.hash == _digest(previous, row.seq, row.at, entry)
        if not fits:
            return AuditReport(entries=seq, ok=False, broken_at=seq + 1)
        previous, seq = row.hash, row.seq
    head = connection.execute(select(audit_head).where(audit_head.c.id == HEAD)).one_or_none()
    if head is None:
        return AuditReport(entries=seq, ok=seq == 0, broken_at=seq or None)
    whole = head.seq == seq and head.hash == previous and hmac.compare_digest(head.mac, _mac(key, seq, previous))
    # A longer head tells that the entries after `seq` are gone; any other mismatch, that the last one is not ours.
    broken_at = None if whole else (seq + 1 if head.seq > seq else max(seq, 1))
    return AuditReport(entries=seq, ok=whole, broken_at=broken_at)


def _digest(previous: bytes, seq: int, at: datetime, entry: Entry) -> bytes:
    moment = at - START
    micros = (moment.days * 86_400 + moment.seconds) * 1_000_000 + moment.microseconds
    texts = (str(seq), str(micros), entry.tenant, entry.actor, entry.action, entry.object, entry.outcome)
    encoded = (text.encode() for text in texts)
    return hashlib.sha256(LABEL + previous + b"".join(len(part).to_bytes(4, "big") + part for part in encoded)).digest()


def _mac(key: bytes, seq: int, digest: bytes) -> bytes:
    return hmac.digest(key, HEAD_LABEL + seq.to_bytes(8, "big") + digest, "sha256")
