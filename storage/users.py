"""Users: found by an HMAC of the host's id, which itself is only kept sealed; and what policies ask about them."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Connection, Row, bindparam, func, insert, select, update

from storage import tenants
from storage.columns import START
from storage.datakeys import DataKey, DataKeys
from storage.errors import StoreBusy, UnknownUser
from storage.records import ActivityRow, User
from storage.sealing import Context, Kind, seal_body, unseal_body
from storage.states import EventKind, UserState
from storage.tables import DUE, TEACHING, events, runs, tombstones, users
from storage.transaction import Transaction

TEACHES = (EventKind.EXAMPLE, EventKind.CORRECTION)


def lookup(tenant_key: DataKey, external_id: str) -> bytes:
    return tenant_key.digest16(b"lookup/1", external_id.encode("utf-8", "surrogatepass"))


def create(tx: Transaction, tenant_key: DataKey, external_id: str, consented: bool) -> str:
    """A new user with a new data key; returns the internal id."""
    user = uuid.uuid4().hex
    key = tx.keys.create(tx.connection, tenant_key.tenant, user)
    tx.connection.execute(
        insert(users).values(
            id=user,
            tenant=tenant_key.tenant,
            lookup=lookup(tenant_key, external_id),
            external_id_sealed=seal_body(key.secret, _context(key), external_id.encode("utf-8", "surrogatepass")),
            state=UserState.ACTIVE,
            consented=consented,
            consent_at=START,  # so that the first consent event wins over the default, whenever it was given
            fresh=0,
            total=0,
            watermark=0,
            not_before=START,
            current_version=0,
            last_version=0,
            created_at=tx.now,
        )
    )
    return user


def find(connection: Connection, keys: DataKeys, tenant: str, external_id: str) -> User | None:
    """The user of this external id; the forgotten one while only a tombstone is left."""
    digest = lookup(tenants.key_of(connection, keys, tenant), external_id)
    row = connection.execute(select(users).where(users.c.tenant == tenant, users.c.lookup == digest)).one_or_none()
    if row is not None:
        return _user(row)
    forgotten = select(tombstones.c.user).where(tombstones.c.tenant == tenant, tombstones.c.lookup == digest)
    row = connection.execute(select(users).where(users.c.id.in_(forgotten))).one_or_none()
    return None if row is None else _user(row)


def reserved(tx: Transaction, tenant: str, lookups: Collection[bytes]) -> list[Row[tuple[object, ...]]]:
    """The rows of these users, locked; until the end of the transaction nobody else makes those who are not there.

    Names first, then every row in one statement, each in order: whoever locked some rows, then waited for a name, and
    then locked the rows made meanwhile could hold a later row while it wants an earlier one. Raises StoreBusy.
    """
    connection = tx.connection
    if connection.dialect.name != "postgresql":  # SQLite has one writer
        return _locked(connection, tenant, lookups)
    mine = (users.c.tenant == tenant) & users.c.lookup.in_(lookups)
    missing = set(lookups).difference(connection.execute(select(users.c.lookup).where(mine)).scalars())
    if missing:
        connection.execute(select(func.pg_advisory_xact_lock(_names(missing)))).all()
    found = _locked(connection, tenant, lookups)
    gone = set(lookups).difference(missing, (row.lookup for row in found))
    if gone and not all(connection.execute(select(func.pg_try_advisory_xact_lock(_names(gone)))).scalars()):
        raise StoreBusy("users")  # forgotten since the look, and made again by somebody else: waiting might be for ever
    return found


def _names(lookups: Collection[bytes]) -> ColumnElement[int]:
    """What stands for users who are not there, in the order in which everybody takes them."""
    numbers = sorted(int.from_bytes(each[:8], "big", signed=True) for each in lookups)
    return func.unnest(bindparam("numbers", numbers, ARRAY(BigInteger)))


def _locked(connection: Connection, tenant: str, lookups: Collection[bytes]) -> list[Row[tuple[object, ...]]]:
    mine = (users.c.tenant == tenant) & users.c.lookup.in_(lookups)
    return list(connection.execute(select(users).where(mine).order_by(users.c.id).with_for_update()))


def get(connection: Connection, user: str) -> User | None:
    row = connection.execute(select(users).where(users.c.id == user)).one_or_none()
    return None if row is None else _user(row)


def active(connection: Connection, user: str) -> Row[tuple[object, ...]]:
    """The row of an active user, locked where the database can. Raises UnknownUser."""
    row = all_active(connection, [user]).get(user)
    if row is None:
        raise UnknownUser(user)
    return row


def all_active(connection: Connection, whom: Sequence[str]) -> dict[str, Row[tuple[object, ...]]]:
    """The rows of those who are active, locked where the database can: by id, so that no two wait for each other."""
    mine = users.c.id.in_(whom) & (users.c.state == UserState.ACTIVE)
    return {row.id: row for row in connection.execute(select(users).where(mine).order_by(users.c.id).with_for_update())}


def external_id(connection: Connection, keys: DataKeys, user: str) -> str:
    """The host's id, unsealed. Raises UnknownUser or Unreadable."""
    mine = (users.c.id == user) & (users.c.state == UserState.ACTIVE)
    row = connection.execute(select(users).where(mine)).one_or_none()  # without a lock: a read may take none
    if row is None:
        raise UnknownUser(user)
    key = keys.get(connection, user)
    return unseal_body(key.secret, _context(key), row.external_id_sealed).decode("utf-8", "surrogatepass")


def listed(connection: Connection, tenant: str, limit: int, after: str) -> list[User]:
    """By internal id, from the one behind `after`."""
    theirs = (users.c.tenant == tenant) & (users.c.id > after) & users.c.synthetic.is_not(True)
    query = select(users).where(theirs).order_by(users.c.id).limit(limit)
    return [_user(row) for row in connection.execute(query)]


def activities(connection: Connection, whom: Sequence[str], now: datetime) -> dict[str, ActivityRow]:
    """By user, without those who are unknown."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) - (now.utcoffset() or START - START)
    todays = runs.c.user.in_(whom) & (runs.c.created_at >= midnight)
    counted = select(runs.c.user, func.count().label("opened")).where(todays).group_by(runs.c.user)
    today = {row.user: row.opened for row in connection.execute(counted)}
    return {
        row.id: ActivityRow(
            tenant=row.tenant,
            consented=row.consented,
            fresh=row.fresh,
            total=row.total,
            has_open_run=row.open_run is not None,
            last_run_at=row.last_run_at,
            last_event_at=row.last_event_at,
            runs_today=today.get(row.id, 0),
            forgotten=row.state is UserState.FORGOTTEN,
            dead=row.dead_run is not None,
            synthetic=bool(row.synthetic),
        )
        for row in connection.execute(select(users).where(users.c.id.in_(whom)))
    }


def due(connection: Connection, now: datetime, limit: int, min_fresh: int, min_fresh_dead: int) -> list[str]:
    """Who may be worth a run, longest put off or waiting first. Reads only entries of the index of due users."""
    alive = users.c.dead_run.is_(None) | (users.c.fresh >= min_fresh_dead)
    query = (
        select(users.c.id)
        .where(DUE, users.c.fresh >= min_fresh, users.c.not_before <= now, alive)
        .order_by(users.c.not_before, users.c.fresh_since, users.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def postpone(tx: Transaction, until: Mapping[str, datetime]) -> None:
    """Keep each user out of `due` until then, so that users who must wait do not hide the ones behind them."""
    if until:
        postponed = update(users).where(users.c.id == bindparam("of_user")).values(not_before=bindparam("at"))
        tx.connection.execute(postponed, [{"of_user": user, "at": at} for user, at in sorted(until.items())])


def teaching(connection: Connection, tenant: str, limit: int) -> list[str]:
    """Consenting users with examples, those with the most first."""
    query = (
        select(users.c.id)
        .where(TEACHING, users.c.tenant == tenant, users.c.synthetic.is_not(True))
        .order_by(users.c.total.desc(), users.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def recount(connection: Connection, whom: Sequence[str]) -> None:
    """Count again what there is to learn from, in all and past the watermark."""
    mine = (events.c.user == users.c.id) & events.c.kind.in_(TEACHES)
    fresh = mine & (events.c.seq > users.c.watermark)
    connection.execute(
        update(users)
        .where(users.c.id.in_(whom))
        .values(
            total=select(func.count()).select_from(events).where(mine).scalar_subquery(),
            fresh=select(func.count()).select_from(events).where(fresh).scalar_subquery(),
            fresh_since=select(func.min(events.c.received_at)).where(fresh).scalar_subquery(),
        )
    )


def _user(row: Row[tuple[object, ...]]) -> User:
    return User(row.id, row.tenant, row.state, row.consented, row.created_at)


def _context(key: DataKey) -> Context:
    owner = bytes.fromhex(key.owner)
    return Context(Kind.EXTERNAL_ID, bytes.fromhex(key.tenant), owner, key.key_id, key.generation, object_id=owner)
