"""`migrate`: brings the database to the newest schema without a daemon, or tells whether that is needed."""

from contextlib import closing
from threading import Event

from daemon.settings import Settings
from storage import SchemaBehind, StoreBusy, schema
from storage.database import Database
from storage.postgres import Postgres
from storage.sqlite import SQLite

Answer = dict[str, object]
TRIES = 5
PAUSE_S = 1.0


def migrate(settings: Settings) -> Answer:
    """Migrate. Two at once are fine: the second waits for the first and finds nothing to do.

    Where transactions of running daemons stay in the way it tries again, TRIES times. Raises StoreBusy, SchemaTooNew,
    StoreInUse for an SQLite file that a daemon has open, or what the server refuses.
    """
    with closing(opened(settings)) as database:
        before = _revision(database)
        for left in reversed(range(TRIES)):
            try:
                database.migrate(schema.upgrade)
            except StoreBusy:
                if not left:
                    raise
                Event().wait(PAUSE_S)
            else:
                break
        after = _revision(database)
    return {"database": database.name, "from": before or None, "to": after, "changed": before != after}


def check(settings: Settings) -> Answer:
    """Whether the schema is one that this release works on; changes nothing."""
    if not settings.database_url and not (settings.data_dir / "plora.db").exists():
        return _behind(SchemaBehind("", schema.newest()))
    with closing(opened(settings)) as database, database.read() as connection:
        found = schema.revision(connection)
        try:
            schema.need(connection)
        except SchemaBehind as behind:
            return _behind(behind)
    return {"ok": True, "schema": found, "needed": schema.newest(), "problem": None}


def opened(settings: Settings) -> Database:
    """The database of `settings`, whatever its schema."""
    url = settings.store_url
    return Postgres(url) if url.startswith("postgresql") else SQLite(url, lambda _: None)


def _behind(behind: SchemaBehind) -> Answer:
    return {"ok": False, "schema": behind.found or None, "needed": behind.needed, "problem": str(behind)}


def _revision(database: Database) -> str:
    with database.read() as connection:
        return schema.revision(connection)
