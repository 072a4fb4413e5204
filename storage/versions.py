"""Adapter versions: immutable once written; promotion and rollback move one pointer and nothing else."""

from collections.abc import Sequence

from sqlalchemy import Connection, Row, delete, func, select, update

from storage import users
from storage.datakeys import DataKey, DataKeys
from storage.errors import CurrentVersionKept, StaleEpoch, UnknownVersion, Unreadable
from storage.moves import Moving
from storage.records import AdapterVersion, StoredAdapter
from storage.sealing import Context, Kind, digest32, unseal
from storage.states import VersionState, sources
from storage.tables import users as user_table
from storage.tables import versions as table
from storage.transaction import Transaction

GENERIC = 0  # the pointer's value while the user is served the generic model
META = [column for column in table.c if column.name not in {"adapter_sealed", "statistics_sealed", "tenant"}]
SERVED = [*META, table.c.adapter_sealed]


def rollback(tx: Transaction, user: str, to: int | None, actor: str, cause: str = "rollback") -> AdapterVersion | None:
    """Point at version `to`, which was current once; 0 is the generic model; None the newest retired before this one.

    Returns what is served now; None for the generic model. Raises UnknownUser or UnknownVersion.
    """
    row = users.active(tx.connection, user)
    target = _previous(tx.connection, user, row.current_version) if to is None else to
    if target == row.current_version:
        return current(tx.connection, user)
    if target != GENERIC:
        kept = select(table.c.version).where(
            table.c.user == user, table.c.version == target, table.c.state == VersionState.RETIRED
        )
        if tx.connection.execute(kept).one_or_none() is None:
            raise UnknownVersion(user, target)
    ceased = current(tx.connection, user)
    _point(tx, user, row.current_version, target)
    tx.moved(Moving(str(row.tenant), user, target, None if ceased is None else ceased.digest, cause))
    if target != GENERIC:
        restored = (table.c.user == user) & (table.c.version == target)
        tx.connection.execute(
            update(table)
            .where(restored, table.c.state.in_(sources(VersionState.CURRENT)))
            .values(state=VersionState.CURRENT)
        )
    tx.audit(row.tenant, actor, "version.rollback", user, f"from {row.current_version} to {target}")
    return current(tx.connection, user)


def current(connection: Connection, user: str) -> AdapterVersion | None:
    query = select(*META).where(table.c.user == user, table.c.state == VersionState.CURRENT)
    row = connection.execute(query).one_or_none()
    return None if row is None else version_of(row)


def current_adapter(connection: Connection, keys: DataKeys, user: str) -> StoredAdapter | None:
    query = select(*SERVED).where(table.c.user == user, table.c.state == VersionState.CURRENT)
    return _adapter(connection, keys, connection.execute(query).one_or_none())


def adapter(connection: Connection, keys: DataKeys, user: str, version: int) -> StoredAdapter | None:
    query = select(*SERVED).where(table.c.user == user, table.c.version == version)
    return _adapter(connection, keys, connection.execute(query).one_or_none())


def listed(connection: Connection, whom: Sequence[str]) -> dict[str, list[AdapterVersion]]:
    """The versions of each of these users, oldest first."""
    versions: dict[str, list[AdapterVersion]] = {user: [] for user in whom}
    query = select(*META).where(table.c.user.in_(whom)).order_by(table.c.user, table.c.version)
    for row in connection.execute(query):
        versions[row.user].append(version_of(row))
    return versions


def latest(connection: Connection, whom: Sequence[str]) -> dict[str, AdapterVersion]:
    """The newest version that is kept of each of these users, whatever became of it."""
    newest = select(table.c.user, func.max(table.c.version).label("version")).where(table.c.user.in_(whom))
    last = newest.group_by(table.c.user).subquery()
    query = select(*META).join(last, (last.c.user == table.c.user) & (last.c.version == table.c.version))
    return {row.user: version_of(row) for row in connection.execute(query)}


def newest(connection: Connection, limit: int) -> list[AdapterVersion]:
    """The versions that were made last, over all users, newest first."""
    nobodys = select(user_table.c.id).where(user_table.c.synthetic.is_(True))
    query = select(*META).where(table.c.user.not_in(nobodys)).order_by(table.c.run.desc()).limit(limit)
    return [version_of(row) for row in connection.execute(query)]


def delete_some(tx: Transaction, user: str, numbers: Sequence[int]) -> int:
    """Delete these versions; returns how many there were. Raises CurrentVersionKept, deleting none."""
    row = users.active(tx.connection, user)
    if row.current_version in numbers:
        raise CurrentVersionKept(user, row.current_version)
    gone = tx.connection.execute(delete(table).where(table.c.user == user, table.c.version.in_(numbers))).rowcount
    if gone:
        tx.audit(row.tenant, "store", "versions.delete", user, f"{gone} deleted")
    return gone


def _point(tx: Transaction, user: str, before: int, after: int) -> None:
    """Retire what is current and move the pointer, which must still be at `before`."""
    tx.connection.execute(
        update(table)
        .where(table.c.user == user, table.c.state.in_(sources(VersionState.RETIRED)))
        .values(state=VersionState.RETIRED)
    )
    moved = tx.connection.execute(
        update(user_table)
        .where(user_table.c.id == user, user_table.c.current_version == before)
        .values(current_version=after)
    )
    if moved.rowcount != 1:
        raise StaleEpoch("pointer", before, after)


def _previous(connection: Connection, user: str, version: int) -> int:
    query = select(table.c.version).where(
        table.c.user == user, table.c.version < version, table.c.state == VersionState.RETIRED
    )
    return connection.execute(query.order_by(table.c.version.desc()).limit(1)).scalar_one_or_none() or GENERIC


def unsealed(key: DataKey, row: Row[tuple[object, ...]]) -> StoredAdapter:
    """The adapter in this row. Raises Unreadable when it was altered or moved."""
    version = version_of(row)
    try:
        return StoredAdapter(version, unseal(key.secret, context_of(key, version), row.adapter_sealed))
    except Unreadable:
        raise Unreadable(f"version {row.version} of user {row.user}") from None


def version_of(row: Row[tuple[object, ...]]) -> AdapterVersion:
    return AdapterVersion(**{column.name: getattr(row, column.name) for column in META})


def context_of(key: DataKey, version: AdapterVersion, kind: Kind = Kind.ADAPTER) -> Context:
    """The place of a version's adapter, or of its statistics: the kind keeps one from being put for the other."""
    return Context(
        kind,
        bytes.fromhex(key.tenant),
        bytes.fromhex(key.owner),
        key.key_id,
        key.generation,
        version=version.version,
        run=version.run,
        epoch=version.epoch,
        base=digest32(version.base),
        basis=digest32(version.basis),
        watermark=version.watermark_seq,
    )


def _adapter(connection: Connection, keys: DataKeys, row: Row[tuple[object, ...]] | None) -> StoredAdapter | None:
    return None if row is None else unsealed(keys.get(connection, row.user), row)
