"""Training runs: opened once per user at a time, claimed under a lease, settled under an epoch."""

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from storage import leases
from storage.leases import RUNS
from storage.records import Run, RunState, UserState, sources
from storage.tables import runs as table
from storage.tables import users
from storage.transaction import Transaction


def open_one(tx: Transaction, user: str, basis: str, reason: str) -> Run | None:
    """Queue a run; None when the user has one open, or is unknown or forgotten."""
    row = tx.connection.execute(select(users).where(users.c.id == user).with_for_update()).one_or_none()
    if row is None or row.state is not UserState.ACTIVE or row.open_run is not None:
        return None
    values = {
        "tenant": row.tenant,
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
    }
    opened = tx.connection.execute(insert(table).values(**values).returning(table)).one()
    tx.connection.execute(update(users).where(users.c.id == user).values(open_run=opened.id, last_run_at=tx.now))
    return to_run(opened)


def settle(
    tx: Transaction, claimed: tuple[int, int], target: RunState, error_code: str | None, error_reason: str | None
) -> Run:
    """End the run that is claimed as (id, epoch), and free its user for the next. Raises StaleEpoch."""
    values = {"finished_at": tx.now, "error_code": error_code, "error_reason": error_reason}
    row = leases.settle(tx, RUNS, claimed, target, values)
    _free(tx, [row])
    return to_run(row)


def fail(tx: Transaction, claimed: tuple[int, int], error_code: str, reason: str) -> None:
    run = settle(tx, claimed, RunState.FAILED, error_code, reason)
    tx.audit(run.tenant, run.owner or "store", "run.fail", run.user, f"run {run.id} {error_code}")


def cancel(tx: Transaction, run: int, reason: str) -> Run | None:
    """Cancel an open run whoever holds it; None when it is not open."""
    rows = _cancel(tx, table.c.id == run, reason)
    return to_run(rows[0]) if rows else None


def cancel_of(tx: Transaction, user: str, reason: str) -> int:
    """Cancel the user's open run; returns how many there were."""
    return len(_cancel(tx, table.c.user == user, reason))


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
    )


def _cancel(tx: Transaction, which: ColumnElement[bool], reason: str) -> list[Row[tuple[object, ...]]]:
    """Raising the epoch fences whoever is at work on it."""
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


def _free(tx: Transaction, rows: list[Row[tuple[object, ...]]]) -> None:
    for row in rows:
        mine = (users.c.id == row.user) & (users.c.open_run == row.id)
        tx.connection.execute(update(users).where(mine).values(open_run=None, last_run_at=tx.now))
