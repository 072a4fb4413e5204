"""Forgetting a user: their data key is destroyed, so that whatever is left of them anywhere can not be read.

Stages, each with its time on the receipt:

    fenced         open runs are cancelled and their epochs raised: a result on its way is refused
    key_destroyed  the wrapped data key is overwritten in place
    rows_deleted   events and versions are gone, the external id too; a tombstone refuses late duplicates
    scrubbed       the WAL is emptied into the database, so that no file holds an older page

The first three are one transaction. A crash before the last leaves `scrubbed` open; opening the store, or
the next scrub, completes it. Copies of the files made before are made useless by the next rotation of keys.
"""

from datetime import datetime

from sqlalchemy import Row, delete, insert, select, update

from storage import runs, tenants, users
from storage.records import Receipt, Stage, UserState, sources
from storage.tables import events, tombstones, versions
from storage.tables import users as table
from storage.transaction import Transaction


def forget(tx: Transaction, tenant: str, external_id: str, actor: str) -> Receipt | None:
    """Everything but the scrubbing. None when the tenant never had such a user; again is harmless."""
    lookup = users.lookup(tenants.key_of(tx.connection, tx.keys, tenant), external_id)
    mine = (table.c.tenant == tenant) & (table.c.lookup == lookup)
    row = tx.connection.execute(select(table).where(mine).with_for_update()).one_or_none()
    if row is None:
        return _already(tx, tenant, lookup)
    cancelled = runs.cancel_of(tx, row.id, "user_forgotten")
    tx.keys.destroy(tx.connection, row.id)
    gone_events = tx.connection.execute(delete(events).where(events.c.user == row.id)).rowcount
    gone_versions = tx.connection.execute(delete(versions).where(versions.c.user == row.id)).rowcount
    _empty(tx, row.id)
    tx.connection.execute(insert(tombstones).values(tenant=tenant, lookup=lookup, user=row.id, forgotten_at=tx.now))
    outcome = f"{gone_events} events, {gone_versions} versions, {cancelled} runs"
    tx.audit(tenant, actor, "user.forget", row.id, outcome)
    times = (tx.now, tx.now, tx.now, None)
    return Receipt(row.id, _stages(*times), runs=cancelled, events=gone_events, versions=gone_versions)


def scrubbed(tx: Transaction) -> list[str]:
    """Note on every open tombstone that the WAL was emptied; returns their users."""
    open_ones = tombstones.c.scrubbed_at.is_(None) & (tombstones.c.forgotten_at <= tx.now)
    closed = update(tombstones).where(open_ones).values(scrubbed_at=tx.now).returning(tombstones.c.user)
    return list(tx.connection.execute(closed).scalars())


def receipt(row: Row[tuple[object, ...]]) -> Receipt:
    """The receipt of an earlier forgetting, from its tombstone; what was counted then is in the audit log."""
    at = row.forgotten_at
    return Receipt(row.user, _stages(at, at, at, row.scrubbed_at), runs=0, events=0, versions=0)


def _already(tx: Transaction, tenant: str, lookup: bytes) -> Receipt | None:
    query = select(tombstones).where(tombstones.c.tenant == tenant, tombstones.c.lookup == lookup)
    row = tx.connection.execute(query).one_or_none()
    return None if row is None else receipt(row)


def _empty(tx: Transaction, user: str) -> None:
    """Leave the internal id, for the audit log to refer to, and nothing that the host would recognise."""
    tx.connection.execute(
        update(table)
        .where(table.c.id == user, table.c.state.in_(sources(UserState.FORGOTTEN)))
        .values(
            state=UserState.FORGOTTEN,
            lookup=None,
            external_id_sealed=None,
            consented=False,
            fresh=0,
            total=0,
            fresh_since=None,
            last_event_at=None,
            last_run_at=None,
            open_run=None,
            current_version=0,
        )
    )


def _stages(*times: datetime | None) -> tuple[Stage, ...]:
    names = ("fenced", "key_destroyed", "rows_deleted", "scrubbed")
    return tuple(Stage(name, at) for name, at in zip(names, times, strict=True))
