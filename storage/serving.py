"""What answers for whom: many users of a tenant looked up in one read, by the ids that the host calls them by."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select

from storage import bases, tenants
from storage.datakeys import DataKeys
from storage.states import UserState, VersionState
from storage.tables import users
from storage.tables import versions as table
from storage.users import lookup

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Served:
    """A version that can answer for its user; `digest` is of its sealed bytes, `basis` the fingerprint it needs."""

    version: int
    digest: str
    basis: str


@dataclass(frozen=True, slots=True)
class Serving:
    """An active user by the daemon's own id, the version that serves them (None: the generic model), and the last."""

    user: str
    current: Served | None
    previous: Served | None


@dataclass(frozen=True, slots=True)
class Servings:
    """The fingerprint of the tenant's newest Basis, and active users by the host's ids."""

    basis: str | None
    users: Mapping[str, Serving] = field(repr=False)


def read(
    connection: Connection, keys: DataKeys, tenant: str, whom: Collection[str], *, previous: bool = False
) -> Servings:
    """The tenant's newest Basis, and of `whom` those who are active users of the tenant.

    With `previous` also what served each before. Raises UnknownTenant.
    """
    basis = bases.current(connection, tenant)
    key = tenants.key_of(connection, keys, tenant)
    names = {lookup(key, each): each for each in whom}
    found: dict[str, Serving] = {}
    lookups = list(names)
    for start in range(0, len(lookups), AT_ONCE):
        for row in _rows(connection, tenant, lookups[start : start + AT_ONCE]):
            found[names[row.lookup]] = Serving(row.id, _served(row), None)
    if previous and found:
        found = _with_previous(connection, found)
    return Servings(None if basis is None else basis.fingerprint, found)


def _rows(connection: Connection, tenant: str, lookups: Collection[bytes]) -> list[Any]:
    mine = (users.c.tenant == tenant) & users.c.lookup.in_(lookups) & (users.c.state == UserState.ACTIVE)
    current = and_(table.c.user == users.c.id, table.c.version == users.c.current_version)
    query = select(users.c.id, users.c.lookup, table.c.version, table.c.digest, table.c.basis)
    return list(connection.execute(query.select_from(users.outerjoin(table, current)).where(mine)))


def _served(row: Any) -> Served | None:
    return None if row.version is None else Served(row.version, row.digest, row.basis)


def _with_previous(connection: Connection, found: dict[str, Serving]) -> dict[str, Serving]:
    """Beside each user's current version the newest retired one before it."""
    whom = {each.user: name for name, each in found.items() if each.current is not None}
    ids = list(whom)
    for start in range(0, len(ids), AT_ONCE):
        part = ids[start : start + AT_ONCE]
        newest = (
            select(table.c.user, func.max(table.c.version).label("version"))
            .join(users, users.c.id == table.c.user)
            .where(table.c.user.in_(part), table.c.state == VersionState.RETIRED, _before())
            .group_by(table.c.user)
            .subquery()
        )
        same = and_(table.c.user == newest.c.user, table.c.version == newest.c.version)
        query = select(table.c.user, table.c.version, table.c.digest, table.c.basis).join(newest, same)
        for row in connection.execute(query):
            name = whom[row.user]
            found[name] = Serving(row.user, found[name].current, _served(row))
    return found


def _before() -> ColumnElement[bool]:
    return table.c.version < users.c.current_version
