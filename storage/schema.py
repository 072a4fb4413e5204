"""The database's schema: which revision it has, and bringing it to the newest one.

There is no way back down: a backup made before the upgrade is.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select

from storage.errors import SchemaTooNew
from storage.opening_errors import SchemaBehind
from storage.tables import compatibility

MIGRATIONS = Path(__file__).parent / "migrations"


def revision(connection: Connection) -> str:
    """The revision of this database; empty when it is new."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def upgrade(connection: Connection) -> None:
    """Migrate to the newest revision inside the caller's transaction, so that a crash leaves the old schema.

    A schema of a later release stays as it is, when it says that this release works on it: so daemons are replaced one
    by one. Raises SchemaTooNew otherwise.
    """
    config = _config()
    config.attributes["connection"] = connection
    if _is_behind(connection, ScriptDirectory.from_config(config)):
        command.upgrade(config, "head")
        # failpoint: migrated-before-commit


def need(connection: Connection) -> None:
    """Change nothing. Raises SchemaBehind where `upgrade` would, or SchemaTooNew."""
    if _is_behind(connection, ScriptDirectory.from_config(_config())):
        raise SchemaBehind(revision(connection), newest())


def newest() -> str:
    """The revision that this release migrates to."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _is_behind(connection: Connection, scripts: ScriptDirectory) -> bool:
    known = {script.revision for script in scripts.walk_revisions()}
    found = revision(connection)
    if found and found not in known:
        if _oldest(connection) in known:
            return False
        raise SchemaTooNew(found, str(scripts.get_current_head()))
    return found != scripts.get_current_head()


def _oldest(connection: Connection) -> str | None:
    """The oldest revision whose release works on this schema, if the schema says so."""
    if not inspect(connection).has_table(compatibility.name):
        return None
    return connection.execute(select(compatibility.c.oldest)).scalar()
