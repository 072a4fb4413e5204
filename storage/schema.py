"""The database's schema: which revision it has, and bringing it to the newest one.

There is no way back down: a backup made before the upgrade is.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from storage.errors import SchemaTooNew

MIGRATIONS = Path(__file__).parent / "migrations"


def revision(connection: Connection) -> str:
    """The revision of this database; empty when it is new."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def upgrade(connection: Connection) -> None:
    """Migrate to the newest revision inside the caller's transaction, so that a crash leaves the old schema.

    Raises SchemaTooNew when the database has a revision that this release does not contain.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    found = revision(connection)
    if found and found not in known:
        raise SchemaTooNew(found, str(scripts.get_current_head()))
    if found != scripts.get_current_head():
        command.upgrade(config, "head")
