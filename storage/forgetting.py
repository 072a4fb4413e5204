"""Forgetting a user: their data key is destroyed, so that whatever is left of them anywhere can not be read.

Stages, each with its time on the receipt:

    fenced         open runs are cancelled and their epochs raised: a result on its way is refused
    key_destroyed  the wrapped data key is overwritten in place
    rows_deleted   events and versions are gone, the external id too; a tombstone refuses late duplicates
    scrubbed       no file of the database holds an older page or row
    epoch_rolled   every key epoch that may have wrapped the data key is destroyed, so that older copies of the
                   database, its log, its replicas and its backups can not be read either

The first three are one transaction. A crash before the fourth leaves it open; opening the store, or the next scrub,
completes it. The last one is due some days later, as one roll of the epoch serves everybody forgotten until then.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from storage import moves, runs, tenants, users
from storage.columns import START
from storage.exports import Erased
from storage.history_tables import outcomes
from storage.moves import Moving
from storage.states import EpochState, UserState, VersionState, sources
from storage.tables import events, key_epochs, tombstones, versions
from storage.tables import tenants as tenant_table
from storage.tables import users as table
from storage.transaction import Transaction

RESTORED = "restore"
AT_ONCE = 1_000


def forget(tx: Transaction, tenant: str, external_id: str, actor: str) -> tuple[str, int, int, int] | None:
    """Everything of the first three stages: the user, and how many runs, events and versions are gone.

    None when the tenant never had such a user; again is harmless.
    """
    lookup = users.lookup(tenants.key_of(tx.connection, tx.keys, tenant), external_id)
    mine = (table.c.tenant == tenant) & (table.c.lookup == lookup)
    row = tx.connection.execute(select(table).where(mine).with_for_update()).one_or_none()
    if row is not None:
        return row.id, *_erase(tx, row, actor, tx.now)
    before = tombstone(tx.connection, tenant, lookup)
    return None if before is None else (before.user, 0, 0, 0)


def replay(tx: Transaction, erased: Erased) -> bool:
    """Erase again whom a restored backup has brought back; False when nobody had to be.

    A user who came after the backup was made is not there, yet late duplicates would bring them in again: they get
    their tombstone too. Whoever bore the same external id at the time of the erasure was meant by it.
    """
    if tx.connection.execute(select(tenant_table.c.id).where(tenant_table.c.id == erased.tenant)).one_or_none() is None:
        return False
    lookup = bytes.fromhex(erased.lookup)
    same = (table.c.tenant == erased.tenant) & (table.c.lookup == lookup) & (table.c.created_at <= erased.at)
    alive = (table.c.state == UserState.ACTIVE) & ((table.c.id == erased.user) | same)
    found = tx.connection.execute(select(table).where(alive).with_for_update()).all()
    for row in found:
        _erase(tx, row, RESTORED, erased.at)
    if tx.connection.execute(select(table.c.id).where(table.c.id == erased.user)).one_or_none() is None:
        _bury(tx, erased, lookup)
    return True


def release(tx: Transaction, tenant: str, lookup: bytes) -> None:
    """Let the external id in again; the tombstone goes on to stand for the erasure, under a lookup of nobody."""
    of_user = (tombstones.c.tenant == tenant) & (tombstones.c.lookup == lookup)
    tx.connection.execute(update(tombstones).where(of_user).values(lookup=secrets.token_bytes(16)))


def unscrubbed(connection: Connection) -> tuple[list[str], datetime]:
    """Whom a scrub that begins now will have scrubbed, and when the last of them was forgotten."""
    query = select(tombstones.c.user, tombstones.c.forgotten_at).where(tombstones.c.scrubbed_at.is_(None))
    rows = connection.execute(query).all()
    return [row.user for row in rows], max((row.forgotten_at for row in rows), default=START)


def scrubbed(tx: Transaction, whom: Sequence[str]) -> None:
    """Note on these tombstones that no file holds anything older."""
    for start in range(0, len(whom), AT_ONCE):
        open_ones = tombstones.c.scrubbed_at.is_(None) & tombstones.c.user.in_(whom[start : start + AT_ONCE])
        tx.connection.execute(update(tombstones).where(open_ones).values(scrubbed_at=tx.now))


def rolled(tx: Transaction) -> int:
    """Note on the tombstones whose user's key no epoch can unwrap any more that it is so; returns how many."""
    # A key service may destroy an epoch some days after it was asked to.
    there = (key_epochs.c.state != EpochState.DESTROYED) | (key_epochs.c.destroyed_at > tx.now)
    oldest = tx.connection.execute(select(func.min(key_epochs.c.created_at)).where(there)).scalar()
    if oldest is None:
        return 0
    # An epoch made at the very time of an erasure may have wrapped the key.
    past = tombstones.c.rolled_at.is_(None) & (tombstones.c.forgotten_at < oldest)
    return tx.connection.execute(update(tombstones).where(past).values(rolled_at=tx.now)).rowcount


def roll_due(connection: Connection, before: datetime) -> bool:
    """Whether somebody was forgotten before this time under an epoch that no roll has begun to destroy."""
    kept = key_epochs.c.state.in_((EpochState.PRIMARY, EpochState.ENABLED))
    oldest = connection.execute(select(func.min(key_epochs.c.created_at)).where(kept)).scalar()
    if oldest is None:
        return False
    waiting = tombstones.c.rolled_at.is_(None) & tombstones.c.forgotten_at.between(oldest, before)
    return connection.execute(select(tombstones.c.user).where(waiting).limit(1)).one_or_none() is not None


def tombstone(connection: Connection, tenant: str, lookup: bytes) -> Row[tuple[object, ...]] | None:
    query = select(tombstones).where(tombstones.c.tenant == tenant, tombstones.c.lookup == lookup)
    return connection.execute(query).one_or_none()


def of_user(connection: Connection, user: str) -> Row[tuple[object, ...]] | None:
    """The tombstone of this internal id."""
    return connection.execute(select(tombstones).where(tombstones.c.user == user)).one_or_none()


def listed(connection: Connection, tenant: str, limit: int) -> Sequence[Row[tuple[object, ...]]]:
    """The tenant's tombstones, newest first."""
    query = select(tombstones).where(tombstones.c.tenant == tenant)
    return connection.execute(query.order_by(tombstones.c.forgotten_at.desc(), tombstones.c.user).limit(limit)).all()


def buried(connection: Connection) -> set[str]:
    """Everybody who was ever forgotten, by internal id."""
    return set(connection.execute(select(tombstones.c.user)).scalars())


def told_of(connection: Connection, whom: Sequence[str]) -> list[Erased]:
    """What is to be exported of these erasures."""
    query = select(tombstones).where(tombstones.c.user.in_(whom))
    return [Erased(row.tenant, row.lookup.hex(), row.user, row.forgotten_at) for row in connection.execute(query)]


def _erase(tx: Transaction, row: Row[tuple[object, ...]], actor: str, at: datetime) -> tuple[int, int, int]:
    """How many runs, events and versions the user in `row` loses."""
    cancelled = runs.cancel_of(tx, row.id, "user_forgotten")
    runs.forget_traces(tx, row.id)
    tx.keys.destroy(tx.connection, row.id)
    gone_events = tx.connection.execute(delete(events).where(events.c.user == row.id)).rowcount
    ceased = select(versions.c.digest).where(versions.c.user == row.id, versions.c.state == VersionState.CURRENT)
    moves.forget(tx.connection, row.id)
    tx.connection.execute(delete(outcomes).where(outcomes.c.user == row.id))
    tx.moved(Moving(row.tenant, None, 0, tx.connection.execute(ceased).scalar(), "forget"))
    gone_versions = tx.connection.execute(delete(versions).where(versions.c.user == row.id)).rowcount
    _empty(tx, row.id)
    release(tx, row.tenant, row.lookup)  # only a restored database has another one already
    tx.connection.execute(insert(tombstones).values(tenant=row.tenant, lookup=row.lookup, user=row.id, forgotten_at=at))
    outcome = f"{gone_events} events, {gone_versions} versions, {cancelled} runs"
    tx.audit(row.tenant, actor, "user.forget", row.id, outcome)
    # failpoint: forget-before-commit
    return cancelled, gone_events, gone_versions


def _empty(tx: Transaction, user: str) -> None:
    """Leave the internal id, for the audit log to refer to, and nothing that the host would recognise."""
    tx.connection.execute(
        update(table)
        .where(table.c.id == user, table.c.state.in_(sources(UserState.FORGOTTEN)))
        .values(state=UserState.FORGOTTEN, **NOTHING)
    )


def _bury(tx: Transaction, erased: Erased, lookup: bytes) -> None:
    """A forgotten user whom this database never knew."""
    about = {"id": erased.user, "tenant": erased.tenant, "created_at": erased.at, "consent_at": START}
    zeros = {"watermark": 0, "not_before": START, "last_version": 0}
    tx.connection.execute(insert(table).values(state=UserState.FORGOTTEN, **about, **zeros, **NOTHING))
    release(tx, erased.tenant, lookup)
    grave = {"tenant": erased.tenant, "lookup": lookup, "user": erased.user, "forgotten_at": erased.at}
    tx.connection.execute(insert(tombstones).values(grave))
    tx.audit(erased.tenant, RESTORED, "user.forget", erased.user, "not in the restored database")


NOTHING: dict[str, object] = {
    "lookup": None,
    "external_id_sealed": None,
    "consented": False,
    "fresh": 0,
    "total": 0,
    "fresh_since": None,
    "last_event_at": None,
    "last_run_at": None,
    "open_run": None,
    "dead_run": None,
    "current_version": 0,
    "trace": None,
}
