"""A database of an older release with data in it, migrated by a process that dies at a chosen statement."""

import os
import shutil
import signal
import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event

from storage import schema
from tests.faults.stages import USERS, prepare
from tests.faults.stores import Kept, damages


def old(folder: str, revision: str) -> int:
    """A store whose database has the schema of `revision`; how many events are in it."""
    prepare(folder)
    newest = Path(folder) / "data" / "plora.db"
    older = newest.with_name("older.db")
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    engine = create_engine(f"sqlite:///{older}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    count = _copy(newest, older)
    for path in newest.parent.glob("plora.db*"):
        path.unlink()
    shutil.move(older, newest)
    newest.chmod(0o600)
    return count


def migrate(folder: str, die_at: int) -> int:
    """Open the store, and die just before its statement of that number; how many there were."""
    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    Kept(folder).store.close()
    return seen


def look(folder: str, revision: str) -> list[str]:
    """What is broken: the schema is the old one or the newest, and either way the next start has everything."""
    path = Path(folder) / "data" / "plora.db"
    connection = sqlite3.connect(path)
    [found] = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.close()
    kept = Kept(folder)
    broken = [*damages(kept)]
    with kept.store._read() as reading:
        newest = schema.revision(reading)
    if found not in {revision, newest}:
        broken.append(f"a schema between: {found}")
    for user in USERS:
        if len(kept.store.events(kept.internal(user))) != 6:
            broken.append("events are lost")
        if kept.store.current_adapter(kept.internal(user)) is None:
            broken.append("versions are lost")
    return broken


def _copy(newest: Path, older: Path) -> int:
    connection = sqlite3.connect(older)
    try:
        connection.execute("ATTACH ? AS newest", (str(newest),))
        tables = [row[0] for row in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table.startswith(("sqlite_", "alembic_")):
                continue
            known = {row[1] for row in connection.execute(f"PRAGMA newest.table_info({table})")}
            names = [f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({table})") if row[1] in known]
            listed = ", ".join(names)
            connection.execute(f"DELETE FROM main.{table}")  # noqa: S608 - names of our own tables
            connection.execute(f"INSERT INTO main.{table} ({listed}) SELECT {listed} FROM newest.{table}")  # noqa: S608
        [count] = connection.execute("SELECT count(*) FROM main.events").fetchone()
        connection.commit()
    finally:
        connection.close()
    return int(count)
