"""Leases: how queued rows are claimed, held and settled, the same for runs and bases.

Theory. `claimable_at` is when a row may next be claimed: its `run_at` while queued, the end of its lease while running.
A claim raises `epoch`, and every later write of the claimant names (id, epoch), so whoever lost the claim writes
nothing. There is no reaper that could itself get stuck: an expired lease is taken by the next claim.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import ColumnElement, Row, String, Table, case, select, type_coerce, update

from storage.errors import StaleEpoch
from storage.states import BasisState, RunState, Spent, sources
from storage.tables import OPEN, bases, runs
from storage.transaction import Transaction

AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Leased:
    """A table whose rows are claimed, with its states."""

    table: Table
    what: str
    queued: Enum
    running: Enum


RUNS = Leased(runs, "run", RunState.QUEUED, RunState.RUNNING)
BASES = Leased(bases, "basis", BasisState.QUEUED, BasisState.RUNNING)


def claim(tx: Transaction, leased: Leased, owner: str, limit: int, lease_s: float) -> list[Row[tuple[object, ...]]]:
    """Claim what is queued and due, or was claimed and expired. Expired leases count as crashes."""
    table = leased.table
    free = (
        select(table.c.id)
        .where(OPEN, table.c.claimable_at <= tx.now)
        .order_by(table.c.claimable_at, table.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("free")  # evaluated once: as a subquery PostgreSQL may run it for every row, and claim more than `limit`
    )
    claimed = (
        update(table)
        .where(table.c.id.in_(select(free.c.id)), _is(leased, *sources(leased.running)))
        .values(
            state=leased.running,
            epoch=table.c.epoch + 1,
            attempts=table.c.attempts + 1,
            crashes=table.c.crashes + case((table.c.state == leased.running, 1), else_=0),
            owner=owner,
            claimable_at=tx.now + timedelta(seconds=lease_s),
        )
        .returning(table)
    )
    return sorted(tx.connection.execute(claimed).all(), key=lambda row: (row.run_at, row.id))


def extend(tx: Transaction, leased: Leased, pairs: Sequence[tuple[int, int]], lease_s: float) -> set[int]:
    """Move the end of these (id, epoch) leases; returns the ids that are still held."""
    table = leased.table
    kept: set[int] = set()
    for held in _alike(leased, pairs):
        statement = (
            update(table)
            .where(held, _is(leased, leased.running))
            .values(claimable_at=tx.now + timedelta(seconds=lease_s))
            .returning(table.c.id)
        )
        kept |= set(tx.connection.execute(statement).scalars())
    return kept


def settle(
    tx: Transaction, leased: Leased, claimed: tuple[int, int], target: Enum, values: Mapping[str, object]
) -> Row[tuple[object, ...]]:
    """Move the row claimed as (id, epoch) to `target`. Raises StaleEpoch when it is not held any more."""
    row = settle_all(tx, leased, [claimed], target, values).get(claimed)
    if row is None:
        raise StaleEpoch(leased.what, *claimed)
    return row


def settle_all(
    tx: Transaction, leased: Leased, claims: Sequence[tuple[int, int]], target: Enum, values: Mapping[str, object]
) -> dict[tuple[int, int], Row[tuple[object, ...]]]:
    """Move those of the rows claimed as (id, epoch) to `target` that are still held; returns them by claim."""
    table = leased.table
    settled: dict[tuple[int, int], Row[tuple[object, ...]]] = {}
    for held in _alike(leased, claims):
        statement = (
            update(table)
            .where(held, _is(leased, leased.running), _is(leased, *sources(target)))
            .values(state=target, **values)
            .returning(table)
        )
        settled |= {(row.id, row.epoch): row for row in tx.connection.execute(statement)}
    return settled


def still_held(tx: Transaction, leased: Leased, claims: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Which of the claims (id, epoch) still hold, each with the user of its row; locked where the database can."""
    table = leased.table
    found: dict[tuple[int, int], str] = {}
    for held in _alike(leased, claims):
        query = select(table.c.id, table.c.epoch, table.c.user).where(held, _is(leased, leased.running))
        found |= {(row.id, row.epoch): row.user for row in tx.connection.execute(query.with_for_update())}
    return found


def requeue(  # noqa: PLR0917
    tx: Transaction,
    leased: Leased,
    claimed: tuple[int, int],
    at: datetime,
    error_code: str | None,
    spent: Spent = Spent.ATTEMPT,
) -> Row[tuple[object, ...]]:
    """Give the claim back, to be claimed again from `at` on. Raises StaleEpoch."""
    return settle(tx, leased, claimed, leased.queued, _requeued(leased, at, error_code, spent))


def requeue_all(
    tx: Transaction, leased: Leased, claims: Sequence[tuple[int, int]], at: datetime, error_code: str
) -> dict[tuple[int, int], Row[tuple[object, ...]]]:
    """Give back, unspent, those of the claims (id, epoch) that are still held; returns their rows by claim."""
    return settle_all(tx, leased, claims, leased.queued, _requeued(leased, at, error_code, Spent.NOTHING))


def _requeued(leased: Leased, at: datetime, error_code: str | None, spent: Spent) -> dict[str, object]:
    """The epoch stays, the lease is gone."""
    values: dict[str, object] = {"run_at": at, "claimable_at": at, "owner": None, "error_code": error_code}
    if spent is Spent.CRASH:
        values["crashes"] = leased.table.c.crashes + 1
    elif spent is Spent.NOTHING:
        values["attempts"] = leased.table.c.attempts - 1
    return values


def _is(leased: Leased, *states: Enum) -> ColumnElement[bool]:
    """Whether the row is in one of `states`, for rows that are named by their ids.

    Told in a way that matches none of the indexes of open rows: with statistics from before a rush PostgreSQL takes
    such an index to be almost empty, and walks through everything that is open instead of looking up the ids.
    """
    return type_coerce(leased.table.c.state, String).concat("").in_([str(state.value) for state in states])


def _alike(leased: Leased, claims: Sequence[tuple[int, int]]) -> Iterator[ColumnElement[bool]]:
    """The rows of `claims`, epoch by epoch and not too many at once: a database bounds how long a condition may be."""
    by_epoch: dict[int, list[int]] = {}
    for number, epoch in claims:
        by_epoch.setdefault(epoch, []).append(number)
    for epoch, numbers in by_epoch.items():
        for start in range(0, len(numbers), AT_ONCE):
            yield leased.table.c.id.in_(numbers[start : start + AT_ONCE]) & (leased.table.c.epoch == epoch)


def lease_until(row: Row[tuple[object, ...]]) -> datetime | None:
    """When the claim of this row runs out; None if it is not claimed."""
    held: datetime | None = row.claimable_at if row.state in {RunState.RUNNING, BasisState.RUNNING} else None
    return held
