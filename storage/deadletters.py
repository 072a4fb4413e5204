"""Dead letters: runs that were given up, until another run of their user replaces them.

A dead letter is a FAILED run that its user's row names as `dead_run`. It blocks nothing: events of the user are still
recorded, and count as fresh from the first one that came after. It keeps the class of the error, never a text.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, Select, func, select, text

from storage import bases, runs
from storage.audit import Entry
from storage.records import Run
from storage.states import UserState
from storage.tables import runs as table
from storage.tables import users
from storage.transaction import Transaction

# As in the index of dead letters, or SQLite would not use it; qualified, since users have a state too.
DEAD = text("runs.state = 'failed' AND runs.replaced_by IS NULL")
REASON = "asked for by an operator"


def listed(connection: Connection, tenant: str, limit: int, after: int = 0) -> list[Run]:
    """By number, from the one behind `after`."""
    query = _dead(tenant).where(table.c.id > after).order_by(table.c.id).limit(limit)
    return [runs.to_run(row) for row in connection.execute(query)]


def count(connection: Connection, tenant: str | None = None) -> int:
    """Of a tenant; None: of all."""
    found = _dead(tenant).with_only_columns(func.count())
    return connection.execute(found).scalar_one()


def retry(tx: Transaction, tenant: str, wanted: Sequence[int] | None, limit: int, actor: str) -> dict[int, Run]:
    """Open a run in place of each of these dead letters, or of the oldest ones; by the number of what it replaces.

    Without those whose user has withdrawn consent. The new run is for the tenant's current Basis, if there is one.
    """
    query = _dead(tenant).where(users.c.state == UserState.ACTIVE, users.c.consented)
    if wanted is not None:
        query = query.where(table.c.id.in_(wanted))
    dead = tx.connection.execute(query.order_by(table.c.id).limit(limit)).all()
    basis = bases.current(tx.connection, tenant)
    current = None if basis is None else basis.fingerprint
    opened = runs.open_all(tx, [(row.user, current or row.basis, REASON) for row in dead])
    retried = {row.id: opened[row.user] for row in dead if row.user in opened}
    tx.audit_all(
        [Entry(tenant, actor, "run.retry", run.user, f"run {old} as {run.id}") for old, run in retried.items()]
    )
    return retried


def _dead(tenant: str | None) -> Select[tuple[object, ...]]:
    query = select(table).join(users, users.c.dead_run == table.c.id).where(DEAD)
    return query if tenant is None else query.where(table.c.tenant == tenant)
