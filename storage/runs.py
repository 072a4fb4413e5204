"""Training runs: opened once per user at a time, claimed under a lease, settled under an epoch."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Row, bindparam, case, func, insert, select, update

from storage import leases
from storage.leases import RUNS
from storage.records import Run
from storage.states import RunState, sources
from storage.tables import events, users
from storage.tables import runs as table
from storage.transaction import Transaction
from storage.users import all_active


def forget_traces(tx: Transaction, user: str) -> None:
    """A trace leads to what the host keeps of it."""
    tx.connection.execute(update(table).where(table.c.user == user, table.c.trace.is_not(None)).values(trace=None))


def open_all(
    tx: Transaction, wanted: Sequence[tuple[str, str, str]], seen: Mapping[str, datetime | None] | None = None
) -> dict[str, Run]:
    """Queue a run for each (user, basis, reason); by user, without who has one open, is unknown or forgotten.

    It replaces the user's dead letter, if there is one. `seen` are the `last_run_at` on which it was decided: who has
    had a run since, perhaps by another daemon, or withdrew consent, is left out too.
    """
    free = all_active(tx.connection, [user for user, _, _ in wanted])
    rows = {
        user: {
            "tenant": free[user].tenant,
            "user": user,
            "basis": basis,
            "reason": reason,
            "state": RunState.QUEUED,
            "epoch": 0,
            "attempts": 0,
            "crashes": 0,
            "run_at": tx.now,
            "claimable_at": tx.now,
            "created_at": tx.now,
            "trace": free[user].trace,
        }
        for user, basis, reason in wanted
        if user in free and free[user].open_run is None and (seen is None or _is_as_seen(free[user], seen.get(user)))
    }
    if not rows:
        return {}
    opened = tx.connection.execute(insert(table).returning(table), list(rows.values())).all()
    tx.connection.execute(
        update(users)
        .where(users.c.id == bindparam("of_user"))
        .values(open_run=bindparam("opened"), last_run_at=tx.now, dead_run=None),
        [{"of_user": row.user, "opened": row.id} for row in opened],
    )
    replaced = [{"of_run": free[row.user].dead_run, "opened": row.id} for row in opened if free[row.user].dead_run]
    if replaced:
        dead = update(table).where(table.c.id == bindparam("of_run")).values(replaced_by=bindparam("opened"))
        tx.connection.execute(dead, replaced)
    return {row.user: to_run(row) for row in opened}


def _is_as_seen(row: Row[tuple[object, ...]], last_run_at: datetime | None) -> bool:
    return bool(row.consented) and row.last_run_at == last_run_at


def settle(
    tx: Transaction, claimed: tuple[int, int], target: RunState, error_code: str | None, error_reason: str | None
) -> Run:
    """End the run that is claimed as (id, epoch), and free its user for the next. Raises StaleEpoch."""
    values = {"finished_at": tx.now, "error_code": error_code, "error_reason": error_reason}
    _lock_users(tx, table.c.id == claimed[0])
    row = leases.settle(tx, RUNS, claimed, target, values)
    _free(tx, [row])
    return to_run(row)


def settle_all(tx: Transaction, claims: Sequence[tuple[int, int]], target: RunState) -> dict[tuple[int, int], Run]:
    """End those of the runs claimed as (id, epoch) that are still held, and free their users; returns them by claim."""
    values = {"finished_at": tx.now, "error_code": None, "error_reason": None}
    rows = leases.settle_all(tx, RUNS, claims, target, values)
    _free(tx, list(rows.values()))
    return {claim: to_run(row) for claim, row in rows.items()}


def fail(tx: Transaction, claimed: tuple[int, int], error_code: str, reason: str) -> None:
    """End the run for good: a dead letter. What the user has sent so far counts as looked at. Raises StaleEpoch."""
    run = settle(tx, claimed, RunState.FAILED, error_code, reason)
    newest = tx.connection.execute(select(func.max(events.c.seq)).where(events.c.user == run.user)).scalar() or 0
    looked = case((users.c.watermark < newest, newest), else_=users.c.watermark)
    dead = {"dead_run": run.id, "fresh": 0, "fresh_since": None, "watermark": looked}
    tx.connection.execute(update(users).where(users.c.id == run.user).values(**dead))
    tx.audit(run.tenant, run.owner or "store", "run.fail", run.user, f"run {run.id} {error_code}")


def cancel(tx: Transaction, run: int, reason: str) -> Run | None:
    """Cancel an open run whoever holds it; None when it is not open."""
    rows = _cancel(tx, table.c.id == run, reason)
    return to_run(rows[0]) if rows else None


def cancel_of(tx: Transaction, user: str, reason: str) -> int:
    """Cancel the user's open run; returns how many there were."""
    return len(_cancel(tx, table.c.user == user, reason))


def users_of(connection: Connection, numbers: Sequence[int]) -> list[str]:
    """Whose these runs are."""
    found: list[str] = []
    for start in range(0, len(numbers), leases.AT_ONCE):
        part = numbers[start : start + leases.AT_ONCE]
        found += connection.execute(select(table.c.user).where(table.c.id.in_(part))).scalars()
    return found


def get(connection: Connection, run: int) -> Run | None:
    row = connection.execute(select(table).where(table.c.id == run)).one_or_none()
    return None if row is None else to_run(row)


def listed(connection: Connection, tenant: str | None, state: RunState | None, limit: int) -> list[Run]:
    """Newest first."""
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(table.c.tenant == tenant)
    if state is not None:
        query = query.where(table.c.state == state)
    return [to_run(row) for row in connection.execute(query)]


def to_run(row: Row[tuple[object, ...]]) -> Run:
    return Run(
        id=row.id,
        tenant=row.tenant,
        user=row.user,
        basis=row.basis,
        reason=row.reason,
        state=row.state,
        epoch=row.epoch,
        attempts=row.attempts,
        crashes=row.crashes,
        run_at=row.run_at,
        lease_until=leases.lease_until(row),
        owner=row.owner,
        error_code=row.error_code,
        error_reason=row.error_reason,
        created_at=row.created_at,
        finished_at=row.finished_at,
        trace=row.trace,
    )


def _cancel(tx: Transaction, which: ColumnElement[bool], reason: str) -> list[Row[tuple[object, ...]]]:
    """Raising the epoch fences whoever is at work on it."""
    _lock_users(tx, which)
    statement = (
        update(table)
        .where(which, table.c.state.in_(sources(RunState.CANCELLED)))
        .values(state=RunState.CANCELLED, epoch=table.c.epoch + 1, error_code=reason, finished_at=tx.now)
        .returning(table)
    )
    rows = list(tx.connection.execute(statement).all())
    _free(tx, rows)
    for row in rows:
        tx.audit(row.tenant, "store", "run.cancel", row.user, f"run {row.id} {reason}")
    return rows


def _lock_users(tx: Transaction, which: ColumnElement[bool]) -> None:
    """Users before runs, as everywhere, or two writes could wait for each other."""
    theirs = users.c.id.in_(select(table.c.user).where(which))
    tx.connection.execute(select(users.c.id).where(theirs).order_by(users.c.id).with_for_update()).all()


def _free(tx: Transaction, rows: list[Row[tuple[object, ...]]]) -> None:
    for start in range(0, len(rows), leases.AT_ONCE):
        part = rows[start : start + leases.AT_ONCE]
        theirs = users.c.id.in_([row.user for row in part]) & users.c.open_run.in_([row.id for row in part])
        tx.connection.execute(update(users).where(theirs).values(open_run=None, last_run_at=tx.now))
