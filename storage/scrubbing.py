"""Scrubbing of what is kept for long: blobs and adapters are looked at before somebody needs them.

A Basis whose blob is gone or altered is FAILED with the code `blob_lost`, so that the one before it serves, and another
is queued. An adapter that does not open is rolled back to the newest version that does, and its user's events count as
fresh again, so that the user is due. What can not be looked at now, as the bucket or a key is away, is left alone.
"""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import Connection, Row, func, or_, select, update

from storage import bases, tenants, users, versions
from storage.blobs import Blobs
from storage.datakeys import DataKey, DataKeys
from storage.errors import BlobsAway, BlobsRefused, DiskFailed, Unreadable
from storage.sealing import Context, Kind, unseal
from storage.states import BasisState, VersionState, sources
from storage.tables import CURRENT
from storage.tables import bases as basis_table
from storage.tables import users as user_table
from storage.tables import versions as table
from storage.transaction import Transaction
from storage.versions import GENERIC

CHECK_EVERY = timedelta(days=7)
BASES_AT_ONCE = 8
ADAPTERS_AT_ONCE = 512
LOST = "blob_lost"
ACTOR = "scrub"


class Look(Enum):
    """What a look at a blob told."""

    GOOD = "good"
    LOST = "lost"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class Located:
    """A Basis's blob, and what opens it."""

    basis: int
    blob: str
    key: DataKey
    context: Context


@dataclass(frozen=True, slots=True)
class BlobScrub:
    """What a scrub looked at and what it found lost: Bases by number, adapters as (user, version)."""

    bases: int = 0
    adapters: int = 0
    lost_bases: tuple[int, ...] = ()
    lost_adapters: tuple[tuple[str, int], ...] = ()
    untold: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """Users whose current adapter was opened, and those whose own did not."""

    opened: int = 0
    suspects: tuple[str, ...] = field(default=())


def stale(connection: Connection, keys: DataKeys, before: datetime) -> list[Located]:
    """The READY Bases that were not looked at since `before`, those that wait longest first; not too many at once."""
    long_ago = or_(basis_table.c.checked_at.is_(None), basis_table.c.checked_at < before)
    query = select(basis_table).where(basis_table.c.state == BasisState.READY, long_ago)
    oldest = query.order_by(basis_table.c.checked_at.nulls_first(), basis_table.c.id).limit(BASES_AT_ONCE)
    rows = connection.execute(oldest).all()
    return [found for row in rows if (found := _located(connection, keys, row)) is not None]


def ready(connection: Connection, keys: DataKeys, fingerprint: str, tenant: str) -> list[Located]:
    """The READY Bases of this fingerprint."""
    query = select(basis_table).where(
        basis_table.c.tenant == tenant,
        basis_table.c.fingerprint == fingerprint,
        basis_table.c.state == BasisState.READY,
    )
    rows = connection.execute(query.order_by(basis_table.c.id.desc()).limit(BASES_AT_ONCE)).all()
    return [found for row in rows if (found := _located(connection, keys, row)) is not None]


def look(blobs: Blobs, located: Located) -> Look:
    """Re-hash the blob and open it. Do it outside of a transaction: it may take as long as a bucket takes."""
    try:
        unseal(located.key.secret, located.context, blobs.read(located.blob))
    except Unreadable:
        return Look.LOST
    except (BlobsAway, BlobsRefused, DiskFailed):
        return Look.UNTOLD
    return Look.GOOD


def settle(tx: Transaction, looked: Mapping[int, Look]) -> list[int]:
    """Note what was looked at; the Bases that are lost and FAILED from now on."""
    good = [basis for basis, told in looked.items() if told is Look.GOOD]
    tx.connection.execute(update(basis_table).where(basis_table.c.id.in_(good)).values(checked_at=tx.now))
    return [basis for basis, told in looked.items() if told is Look.LOST and _lose(tx, basis)]


def sample(connection: Connection, keys: DataKeys, share: float) -> Sample:
    """Open a random `share` of the current adapters, not too many at once."""
    count = connection.execute(select(func.count()).select_from(table).where(CURRENT)).scalar_one()
    wanted = min(ADAPTERS_AT_ONCE, math.ceil(share * count))
    if not wanted:
        return Sample()
    rows = _from(connection, secrets.token_hex(16), wanted)
    if len(rows) < wanted:
        rows = list({row.user: row for row in (*rows, *_from(connection, "", wanted - len(rows)))}.values())
    opened = keys.of(connection, [row.user for row in rows])
    pairs = [(row, key) for row in rows if isinstance(key := opened[row.user], DataKey)]
    return Sample(len(pairs), tuple(row.user for row, key in pairs if not _opens(key, row)))


def replace(tx: Transaction, user: str) -> int | None:
    """Serve the newest version that opens, if the current one does not, and have the user trained again.

    The number of the version that was lost; None where there is nothing to replace, or the key itself does not open.
    """
    row = users.all_active(tx.connection, [user]).get(user)
    key = tx.keys.of(tx.connection, [user])[user]
    if row is None or row.current_version == GENERIC or isinstance(key, Unreadable):
        return None
    lost = int(row.current_version)
    mine = select(table).where(table.c.user == user)
    served = tx.connection.execute(mine.where(table.c.version == lost)).one_or_none()
    if served is not None and _opens(key, served):
        return None
    retired = mine.where(table.c.version < lost, table.c.state == VersionState.RETIRED)
    rows = tx.connection.execute(retired.order_by(table.c.version.desc())).all()
    target = next((each for each in rows if _opens(key, each)), None)
    number, watermark = (GENERIC, 0) if target is None else (target.version, target.watermark_seq)
    versions.rollback(tx, user, number, ACTOR, "mend")
    again = update(user_table).where(user_table.c.id == user)
    tx.connection.execute(again.values(watermark=watermark, not_before=tx.now))
    users.recount(tx.connection, [user])
    tx.audit(row.tenant, ACTOR, "version.lost", user, f"version {lost} does not open; {number} is served")
    return lost


def _lose(tx: Transaction, basis: int) -> bool:
    """Fail the Basis, and queue another of its kind unless one is under way. False when it is READY no more."""
    failed = (
        update(basis_table)
        .where(basis_table.c.id == basis, basis_table.c.state == BasisState.READY)
        .where(basis_table.c.state.in_(sources(BasisState.FAILED)))
        .values(state=BasisState.FAILED, error_code=LOST, checked_at=tx.now)
        .returning(basis_table)
    )
    row = tx.connection.execute(failed).one_or_none()
    if row is None:
        return False
    tx.audit(row.tenant, ACTOR, "basis.lost", str(basis), "its blob is gone or altered")
    states = (BasisState.QUEUED, BasisState.RUNNING)
    newer = basis_table.c.state.in_(states) | ((basis_table.c.id > basis) & (basis_table.c.state == BasisState.READY))
    others = select(basis_table.c.id).where(basis_table.c.tenant == row.tenant, newer).limit(1)
    if tx.connection.execute(others).one_or_none() is None:
        bases.open_one(tx, row.tenant, row.name, row.labels_hint)
    return True


def _located(connection: Connection, keys: DataKeys, row: Row[tuple[object, ...]]) -> Located | None:
    try:
        key = tenants.key_of(connection, keys, row.tenant)
    except Unreadable:
        return None
    return Located(row.id, row.blob, key, bases.context_of(key, row))


def _from(connection: Connection, user: str, limit: int) -> Sequence[Row[tuple[object, ...]]]:
    """Current versions of the users from `user` on: ids are random, so this is as good as any other sample."""
    query = select(table).where(CURRENT, table.c.user >= user)
    return connection.execute(query.order_by(table.c.user).limit(limit)).all()


def _opens(key: DataKey, row: Row[tuple[object, ...]]) -> bool:
    try:
        stored = versions.unsealed(key, row)
        if row.statistics_sealed is not None:
            unseal(key.secret, versions.context_of(key, stored.version, Kind.STATISTICS), row.statistics_sealed)
    except Unreadable:
        return False
    return True
