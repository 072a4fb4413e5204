"""Replaying: events that were looked at count as fresh again, so that their users are considered anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select, update

from storage import users
from storage.columns import START
from storage.states import UserState
from storage.tables import events
from storage.tables import users as table
from storage.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many users were replayed, and the last of them while there may be more behind."""

    users: int
    after: str | None = None


def of_user(tx: Transaction, user: str, actor: str) -> Replayed:
    """Everything that is kept of the user counts as fresh. Raises UnknownUser."""
    users.active(tx.connection, user)
    return Replayed(_replay(tx, {user: 0}, actor))


def since(tx: Transaction, tenant: str, at: datetime, actor: str, *, after: str, limit: int) -> Replayed:
    """What came of the tenant's users since `at` counts as fresh; `limit` users, by id from the one behind `after`."""
    query = (
        select(events.c.user, func.min(events.c.seq).label("first"))
        .join(table, table.c.id == events.c.user)
        .where(table.c.tenant == tenant, table.c.state == UserState.ACTIVE, events.c.user > after)
        .where(events.c.received_at >= at, events.c.kind.in_(users.TEACHES))
        .group_by(events.c.user)
        .order_by(events.c.user)
        .limit(limit)
    )
    first = {row.user: row.first - 1 for row in tx.connection.execute(query)}
    done = _replay(tx, first, actor)
    return Replayed(done, max(first) if len(first) == limit else None)


def _replay(tx: Transaction, marks: dict[str, int], actor: str) -> int:
    """Move watermarks back to these, never on."""
    rows = users.all_active(tx.connection, list(marks))
    back = [{"of_user": user, "mark": min(marks[user], row.watermark)} for user, row in rows.items()]
    if back:
        statement = update(table).where(table.c.id == bindparam("of_user"))
        tx.connection.execute(statement.values(watermark=bindparam("mark"), not_before=START), back)
        users.recount(tx.connection, _ids(back))
        for user, row in rows.items():
            tx.audit(row.tenant, actor, "user.replay", user, "considered again")
    return len(back)


def _ids(rows: Sequence[dict[str, object]]) -> list[str]:
    return [str(row["of_user"]) for row in rows]
