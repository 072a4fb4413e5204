"""Figures about the whole store, for metrics and readiness."""

from sqlalchemy import ColumnElement, Connection, Table, TextClause, func, select

from storage import deadletters
from storage.records import Health
from storage.states import RunState, UserState, VersionState
from storage.tables import CURRENT, OPEN, PENDING, runs, users, versions


def read(connection: Connection, database_bytes: int, schema_revision: str) -> Health:
    def count(table: Table, *where: ColumnElement[bool] | TextClause) -> int:
        return connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()

    # OPEN, PENDING and CURRENT are spelled as in the partial indexes, or SQLite would not use them.
    return Health(
        queue_depth=count(runs, OPEN, runs.c.state == RunState.QUEUED),
        running=count(runs, OPEN, runs.c.state == RunState.RUNNING),
        oldest_pending_event_at=connection.execute(select(func.min(users.c.fresh_since)).where(PENDING)).scalar(),
        current_adapters=count(versions, CURRENT, versions.c.state == VersionState.CURRENT),
        users=count(users, users.c.state == UserState.ACTIVE),
        database_bytes=database_bytes,
        schema_revision=schema_revision,
        dead_letters=deadletters.count(connection),
    )
