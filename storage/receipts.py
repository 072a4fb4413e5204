"""Receipts: what was erased of a user and when, signed, so that a host can show one to who trusts the key alone.

A receipt is signed anew each time it is asked for, with the stages that are done by then. What was counted is not
signed: it is known when the user is forgotten, and later only in the audit log.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Row

from storage import statements
from storage.records import Receipt, Stage
from storage.statements import Signs, micros

STAGES = ("fenced", "key_destroyed", "rows_deleted", "scrubbed", "epoch_rolled")


def receipt_of(row: Row[tuple[object, ...]], erase_after: timedelta) -> Receipt:
    """From a tombstone. The counts of the forgetting itself are in the audit log."""
    at = row.forgotten_at
    return Receipt(row.user, stages_of(at, row.scrubbed_at, row.rolled_at, at + erase_after), 0, 0, 0, row.tenant)


def stages_of(
    at: datetime, scrubbed_at: datetime | None, rolled_at: datetime | None, due: datetime
) -> tuple[Stage, ...]:
    """The first three are one transaction; `due` is when the last one will be done at the latest."""
    times = (at, at, at, scrubbed_at, rolled_at)
    return tuple(
        Stage(name, done, due if name == STAGES[-1] else None) for name, done in zip(STAGES, times, strict=True)
    )


def signed(signer: Signs, receipt: Receipt) -> Receipt:
    """The same receipt with its signature."""
    return replace(receipt, signature=statements.signature_of(signer, _facts(receipt)))


def genuine(public: bytes, receipt: Receipt) -> bool:
    """Whether the holder of the key has signed it: user, tenant, and every stage with its time."""
    return statements.holds(public, _facts(receipt), receipt.signature)


def _facts(receipt: Receipt) -> statements.Facts:
    return {
        "kind": "receipt",
        "tenant": receipt.tenant,
        "user": receipt.user,
        "stages": [[stage.name, micros(stage.at), micros(stage.due)] for stage in receipt.stages],
    }
