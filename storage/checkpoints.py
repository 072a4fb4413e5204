"""Checkpoints of the audit chain: how far it had come, signed, so that its end can be held against others' copies."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from storage import statements
from storage.audit import Head, head_of
from storage.exports import Checkpoint
from storage.statements import Signs
from storage.tables import audit_checkpoints as table
from storage.transaction import Transaction

EVERY = timedelta(seconds=60)
ENTRIES = 1_000
LOOKED_AT = 1_000


def due(connection: Connection, now: datetime) -> Head | None:
    """The head, when it has moved for a minute or by a thousand entries since the last checkpoint; else None."""
    head = head_of(connection)
    last = connection.execute(select(table.c.seq, table.c.at).order_by(table.c.seq.desc()).limit(1)).one_or_none()
    if head is None or last is None:
        return head
    behind = head.seq - last.seq
    return head if behind >= ENTRIES or (behind > 0 and now - last.at >= EVERY) else None


def make(tx: Transaction, signer: Signs) -> Checkpoint | None:
    """Sign how far the chain has come; None when the last checkpoint tells it already."""
    head = head_of(tx.connection, lock=True)  # so that no other daemon makes this one too
    if head is None or tx.connection.execute(select(table.c.seq).where(table.c.seq == head.seq)).one_or_none():
        return None
    checkpoint = Checkpoint(head.seq, head.hash, tx.now)
    signature = statements.signature_of(signer, checkpoint.facts)
    values = {"seq": head.seq, "at": tx.now, "hash": head.hash, "signature": signature}
    tx.connection.execute(insert(table).values(values))
    return checkpoint


def pending(connection: Connection) -> list[Checkpoint]:
    """Those of the newest that were not exported, oldest first."""
    newest = select(table).order_by(table.c.seq.desc()).limit(LOOKED_AT)
    rows = [row for row in connection.execute(newest) if row.exported_at is None]
    return [Checkpoint(row.seq, row.hash, row.at) for row in reversed(rows)]


def exported(tx: Transaction, done: Iterable[Checkpoint]) -> None:
    tx.connection.execute(update(table).where(table.c.seq.in_([each.seq for each in done])).values(exported_at=tx.now))
