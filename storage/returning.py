"""Returning: pointers of many users moved back, to what served at an instant or to what a rollout's control is.

A part of the users at a time, each part one transaction: whoever is killed in between calls again, and who is where
they should be is left alone. A version of then that is not kept any more is never replaced by one of another time: its
user is served the generic model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, bindparam, func, select, update

from storage import moves
from storage.audit import Entry
from storage.errors import StaleEpoch
from storage.history_tables import moves as move_table
from storage.moves import Moving
from storage.rollouts import Rollout
from storage.states import UserState, VersionState
from storage.tables import users
from storage.tables import versions as table
from storage.transaction import Transaction
from storage.versions import GENERIC

AT_ONCE = 500
SERVABLE = (VersionState.CURRENT, VersionState.RETIRED)


@dataclass(frozen=True, slots=True)
class Returned:
    """How many pointers were moved, and the last user that was looked at: None where there are no more."""

    moved: int
    after: str | None


def to_instant(tx: Transaction, tenant: str, at: datetime, actor: str, after: str) -> Returned:
    """The next users behind `after`: to what served them at this instant; to the generic model if nothing did."""
    mine = (users.c.tenant == tenant) & (users.c.state == UserState.ACTIVE) & (users.c.id > after)
    query = select(users).where(mine & (users.c.last_version > 0)).order_by(users.c.id).limit(AT_ONCE)
    rows = tx.connection.execute(query.with_for_update()).all()
    whom = [row.id for row in rows]
    then, kept = moves.served_at(tx.connection, whom, at), _kept(tx, whom)
    targets = {user: version if (user, version) in kept else GENERIC for user, version in then.items()}
    moved = _point(tx, rows, {user: targets.get(user, GENERIC) for user in whom}, actor, "rollback")
    return Returned(moved, whom[-1] if len(rows) == AT_ONCE else None)


def to_control(tx: Transaction, rollout: Rollout, after: str) -> Returned:
    """The next users behind `after`: to the control, but for those whose pointer has moved since it was decided."""
    mine = (users.c.tenant == rollout.tenant) & (users.c.state == UserState.ACTIVE) & (users.c.id > after)
    query = select(users).where(mine, users.c.current_version > GENERIC).order_by(users.c.id).limit(AT_ONCE)
    rows = tx.connection.execute(query.with_for_update()).all()
    whom = [row.id for row in rows]
    since = move_table.c.user.in_(whom) & (move_table.c.seq > (rollout.ended_after or 0))
    left = set(tx.connection.execute(select(move_table.c.user).where(since)).scalars())  # asked under the locks
    targets = _before(tx, whom) if rollout.control == "previous" else dict.fromkeys(whom, GENERIC)
    targets = {user: version for user, version in targets.items() if user not in left}
    moved = _point(tx, rows, targets, "store", "rollout")
    return Returned(moved, whom[-1] if len(rows) == AT_ONCE else None)


def _kept(tx: Transaction, whom: Sequence[str]) -> set[tuple[str, int]]:
    query = select(table.c.user, table.c.version).where(table.c.user.in_(whom), table.c.state.in_(SERVABLE))
    return {(row.user, row.version) for row in tx.connection.execute(query)}


def _before(tx: Transaction, whom: Sequence[str]) -> dict[str, int]:
    """By user, the newest retired version before the current one; without those who have none."""
    older = (table.c.state == VersionState.RETIRED) & (table.c.version < users.c.current_version)
    query = select(table.c.user, func.max(table.c.version).label("version")).join(users, users.c.id == table.c.user)
    rows = tx.connection.execute(query.where(table.c.user.in_(whom), older).group_by(table.c.user))
    return {row.user: row.version for row in rows}


def _point(
    tx: Transaction, rows: Sequence[Row[tuple[object, ...]]], targets: Mapping[str, int], actor: str, cause: str
) -> int:
    """Move the pointers of these locked rows that are elsewhere; returns how many."""
    moving = [row for row in rows if targets.get(row.id, row.current_version) != row.current_version]
    if not moving:
        return 0
    whom = [row.id for row in moving]
    ceased = _current_digests(tx, whom)
    leaving = table.c.user.in_(whom) & (table.c.state == VersionState.CURRENT)
    tx.connection.execute(update(table).where(leaving).values(state=VersionState.RETIRED))
    served = [{"of_user": user, "number": targets[user]} for user in whom if targets[user] != GENERIC]
    if served:
        again = (table.c.user == bindparam("of_user")) & (table.c.version == bindparam("number"))
        tx.connection.execute(update(table).where(again).values(state=VersionState.CURRENT), served)
    pointer = (users.c.id == bindparam("of_user")) & (users.c.current_version == bindparam("before"))
    pointed = tx.connection.execute(
        update(users).where(pointer).values(current_version=bindparam("after")),
        [{"of_user": row.id, "before": row.current_version, "after": targets[row.id]} for row in moving],
    )
    if pointed.rowcount != len(moving):
        raise StaleEpoch("pointer", len(moving), pointed.rowcount)
    for row in moving:
        tx.moved(Moving(row.tenant, row.id, targets[row.id], ceased.get(row.id), cause))
    tx.audit_all(
        [
            Entry(row.tenant, actor, "version.rollback", row.id, f"from {row.current_version} to {targets[row.id]}")
            for row in moving
        ]
    )
    return len(moving)


def _current_digests(tx: Transaction, whom: Sequence[str]) -> dict[str, str]:
    query = select(table.c.user, table.c.digest).where(table.c.user.in_(whom), table.c.state == VersionState.CURRENT)
    return {row.user: row.digest for row in tx.connection.execute(query)}
