"""Verifying the audit log: its chain, its head, its signed checkpoints, and what of them was exported.

The chain alone shows that an entry was edited, deleted, inserted or moved. The head under the ring's key shows that the
end is missing and, to whoever has not that key, that all of it was written anew. Only exported checkpoints show
that somebody with the keys wrote it anew, or put back an older copy of the whole database.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Row, select

from storage import statements
from storage.audit import Walk, head_of
from storage.exports import Checkpoint, Told
from storage.records import AuditReport
from storage.tables import audit_checkpoints

Wrong = tuple[int | None, str]  # the first entry that does not fit, if one does not; and the problem
Reads = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Known:
    """What is held against the chain. Without `head_key` the head is compared and not authenticated."""

    public: bytes
    told: Told | None = None
    head_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A checkpoint as the database has it."""

    checkpoint: Checkpoint
    signature: bytes
    exported: bool


def verify(read: Reads, known: Known) -> AuditReport:
    """Walk the whole chain in short snapshots, so that nothing waits for it. The first thing that does not fit counts.

    `known.told` must have been read before, or a checkpoint exported meanwhile would be past the end.
    """
    told = known.told or Told((), (), 0, frozenset())
    with read() as connection:
        stored = [_stored(row) for row in connection.execute(select(audit_checkpoints))]
    anchors = [each.checkpoint for each in stored]
    walk = Walk(each.seq for each in (*anchors, *told.checkpoints, *told.restored))
    while True:
        with read() as connection:
            more = walk.step(connection)
            broken = None if more else _broken(connection, walk, known)
        if not more:
            break
    broken = broken or _checkpoints(stored, walk, known) or _exported(stored, told, walk, known.told is not None)
    at, problem = broken or (None, "")
    return AuditReport(walk.seq, broken is None, at, problem, len(stored), len(told.names), len(told.restored))


def agreed(read: Reads, told: Told, now: datetime) -> Checkpoint:
    """The newest exported checkpoint that fits the chain, as of `now`; entry 0 when none does.

    To state that this database is a backup that was put back: what was exported until `now` and is past it, is void.
    """
    walk = Walk(each.seq for each in told.checkpoints)
    more = True
    while more:
        with read() as connection:
            more = walk.step(connection)
    seq = max((each.seq for each in told.checkpoints if walk.seen.get(each.seq) == each.hash), default=0)
    return Checkpoint(seq, walk.seen[seq], now)


def _broken(connection: Connection, walk: Walk, known: Known) -> Wrong | None:
    """What is wrong with the chain itself or with its head."""
    if walk.broken:
        return walk.seq + 1, "chain"
    head = head_of(connection)
    if head is None:
        return (walk.seq, "head") if walk.seq else None
    fits = head.seq == walk.seq and head.hash == walk.hash
    if fits and (known.head_key is None or head.authentic(known.head_key)):
        return None
    # A longer head tells that the entries after the last are gone; any other mismatch, that the last one is not ours.
    return (walk.seq + 1 if head.seq > walk.seq else max(walk.seq, 1)), "head"


def _checkpoints(stored: Iterable[_Stored], walk: Walk, known: Known) -> Wrong | None:
    for each in stored:
        checkpoint = each.checkpoint
        genuine = statements.holds(known.public, checkpoint.facts, each.signature)
        if not genuine or walk.seen.get(checkpoint.seq) != checkpoint.hash:
            return checkpoint.seq, "checkpoint"
    return None


def _exported(stored: Iterable[_Stored], told: Told, walk: Walk, asked: bool) -> Wrong | None:
    """What the exports tell against the chain. A backup that was put back has said so, and how far it reached."""
    if not asked:
        return None
    restored = [each for each in told.restored if walk.seen.get(each.seq) == each.hash]
    for each in told.checkpoints:
        excused = any(each.seq > past.seq and each.at <= past.at for past in restored)
        if not excused and walk.seen.get(each.seq) != each.hash:
            return (walk.seq + 1, "truncated") if each.seq > walk.seq else (each.seq, "rewritten")
    if told.foreign or any(each.exported and each.checkpoint.name not in told.names for each in stored):
        return None, "exports"
    return None


def _stored(row: Row[tuple[object, ...]]) -> _Stored:
    return _Stored(Checkpoint(row.seq, row.hash, row.at), row.signature, row.exported_at is not None)
