"""Moves of users' pointers: what served whom since when, and what hosts and caches must not use any more."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from storage.history_tables import moves as table


@dataclass(frozen=True, slots=True)
class Moving:
    """A move about to be written: `version` serves the user from now on, `revoked` (a digest) no more."""

    tenant: str
    user: str | None
    version: int
    revoked: str | None
    cause: str


@dataclass(frozen=True, slots=True)
class Move:
    """A move as everybody may know it: without its user."""

    seq: int
    at: datetime
    revoked: str | None = field(repr=False)
    cause: str


def append(connection: Connection, made: Sequence[Moving], now: datetime) -> None:
    """Number and write them. The caller holds the audit log's head, so that numbers are in the order of commits."""
    if made:
        rows = [
            {
                "tenant": each.tenant,
                "user": each.user,
                "version": each.version,
                "revoked": each.revoked,
                "cause": each.cause,
                "at": now,
            }
            for each in made
        ]
        connection.execute(insert(table), rows)


def since(connection: Connection, tenant: str, after: int, limit: int) -> list[Move]:
    """The tenant's moves behind number `after`, oldest first."""
    query = select(table).where(table.c.tenant == tenant, table.c.seq > after).order_by(table.c.seq).limit(limit)
    return [Move(row.seq, row.at, row.revoked, row.cause) for row in connection.execute(query)]


def newest(connection: Connection, tenant: str) -> int:
    """The number of the tenant's newest move; 0 without one."""
    return connection.execute(select(func.max(table.c.seq)).where(table.c.tenant == tenant)).scalar() or 0


def served_at(connection: Connection, whom: Sequence[str], at: datetime) -> dict[str, int]:
    """By user, the version that served at this moment: 0 is the generic model. Without those nothing is known of."""
    last = (
        select(table.c.user, func.max(table.c.seq).label("seq"))
        .where(table.c.user.in_(whom), table.c.at <= at)
        .group_by(table.c.user)
        .subquery()
    )
    query = select(table.c.user, table.c.version).join(last, table.c.seq == last.c.seq)
    return {row.user: row.version for row in connection.execute(query)}


def forget(connection: Connection, user: str) -> None:
    """Leave the user's moves as nobody's."""
    connection.execute(update(table).where(table.c.user == user).values(user=None))


def prune(connection: Connection, before: datetime) -> int:
    """Delete what was over before this time: what served each user at that time is still known. Returns how many."""
    lasting = table.c.user.is_not(None) & (table.c.at < before)
    kept = select(func.max(table.c.seq)).where(lasting).group_by(table.c.user)
    old = (table.c.at < before) & table.c.seq.not_in(kept)
    return connection.execute(delete(table).where(old)).rowcount
