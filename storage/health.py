"""Figures about the whole store, for metrics and readiness."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, TextClause, func, select

from storage import deadletters
from storage.states import EpochState, RunState, UserState, VersionState
from storage.synthetic import is_somebodys
from storage.tables import (
    CURRENT,
    OPEN,
    PENDING,
    audit_checkpoints,
    audit_head,
    bases,
    key_epochs,
    runs,
    tombstones,
    users,
    versions,
)


@dataclass(frozen=True, slots=True)
class Health:
    """Figures for metrics. `queue_depth` counts queued runs, `oldest_pending_event_at` is over consenting users."""

    queue_depth: int
    running: int
    oldest_pending_event_at: datetime | None
    current_adapters: int
    users: int
    database_bytes: int
    schema_revision: str
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Guarded:
    """Figures about keys, erasures and the audit log, for metrics. Each costs a handful of rows."""

    epochs: Mapping[str, int]
    primary_since: datetime | None
    erasures_pending: int
    oldest_erasure_at: datetime | None
    audit_entries: int
    checkpoint_at: datetime | None
    blobs_bytes: int


def read(connection: Connection, database_bytes: int, schema_revision: str) -> Health:
    def count(table: Table, *where: ColumnElement[bool] | TextClause) -> int:
        return connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()

    # OPEN, PENDING and CURRENT are spelled as in the partial indexes, or SQLite would not use them.
    return Health(
        queue_depth=count(runs, OPEN, runs.c.state == RunState.QUEUED),
        running=count(runs, OPEN, runs.c.state == RunState.RUNNING),
        oldest_pending_event_at=connection.execute(select(func.min(users.c.fresh_since)).where(PENDING)).scalar(),
        current_adapters=count(versions, CURRENT, versions.c.state == VersionState.CURRENT),
        users=count(users, users.c.state == UserState.ACTIVE, is_somebodys()),
        database_bytes=database_bytes,
        schema_revision=schema_revision,
        dead_letters=deadletters.count(connection),
    )


def guard(connection: Connection) -> Guarded:
    """What metrics say of keys, erasures and the audit log."""
    by_state = select(key_epochs.c.state, func.count()).group_by(key_epochs.c.state)
    waiting = select(func.count(), func.min(tombstones.c.forgotten_at)).where(tombstones.c.rolled_at.is_(None))
    erasures, oldest = connection.execute(waiting).one()
    primary = select(func.max(key_epochs.c.created_at)).where(key_epochs.c.state == EpochState.PRIMARY)
    return Guarded(
        epochs={state.value: number for state, number in connection.execute(by_state)},
        primary_since=connection.execute(primary).scalar(),
        erasures_pending=erasures,
        oldest_erasure_at=oldest,
        audit_entries=connection.execute(select(func.max(audit_head.c.seq))).scalar() or 0,
        checkpoint_at=connection.execute(select(func.max(audit_checkpoints.c.at))).scalar(),
        blobs_bytes=connection.execute(select(func.sum(bases.c.size_bytes)).where(bases.c.blob.is_not(None))).scalar()
        or 0,
    )
