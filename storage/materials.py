"""Materials: all that a run works from, for many users in one snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, Row, select

from storage import events, versions
from storage.datakeys import DataKey, DataKeys
from storage.errors import Unreadable
from storage.records import AdapterVersion, Event, StoredAdapter
from storage.sealing import Kind, unseal
from storage.states import VersionState
from storage.tables import versions as table


@dataclass(frozen=True, slots=True)
class Material:
    """A user's events, oldest first, the adapter in use, and the statistics that were stored with it.

    `latest` is the newest version that is kept, whether it serves or was rejected.
    """

    events: tuple[Event, ...] = field(default=(), repr=False)
    current: StoredAdapter | None = None
    statistics: bytes | None = field(default=None, repr=False)
    latest: AdapterVersion | None = None


def read(connection: Connection, keys: DataKeys, whom: Sequence[str]) -> dict[str, Material | Unreadable]:
    """What there is of each of these users, or why it can not be read; one user's trouble is nobody else's."""
    stored = events.stored(connection, whom)
    query = select(table).where(table.c.user.in_(whom), table.c.state == VersionState.CURRENT)
    current = {row.user: row for row in connection.execute(query)}
    latest = versions.latest(connection, whom)
    opened = keys.of(connection, [user for user in whom if user in stored or user in current])
    found = {user: _material(opened.get(user), stored.get(user, []), current.get(user)) for user in whom}
    return {
        user: replace(each, latest=latest.get(user)) if isinstance(each, Material) else each
        for user, each in found.items()
    }


def _material(
    key: DataKey | Unreadable | None, rows: Sequence[Row[tuple[object, ...]]], current: Row[tuple[object, ...]] | None
) -> Material | Unreadable:
    if key is None or isinstance(key, Unreadable):
        return Material() if key is None else key
    try:
        adapter = None if current is None else versions.unsealed(key, current)
        return Material(tuple(events.unsealed(key, rows)), adapter, _statistics(key, adapter, current))
    except Unreadable as problem:
        return problem


def _statistics(key: DataKey, adapter: StoredAdapter | None, row: Row[tuple[object, ...]] | None) -> bytes | None:
    if adapter is None or row is None or row.statistics_sealed is None:
        return None
    try:
        return unseal(key.secret, versions.context_of(key, adapter.version, Kind.STATISTICS), row.statistics_sealed)
    except Unreadable:
        raise Unreadable(f"the statistics of version {row.version} of user {row.user}") from None
