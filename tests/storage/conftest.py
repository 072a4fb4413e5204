"""A world: one real store in a temporary directory, and short words to act on it."""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from storage import EventKind, FinishedRun, KeyRing, NewEvent, Run, Store
from tests.storage.servers import PostgresServer

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class World:
    """`url` names a PostgreSQL database; without one it is an SQLite file below `home`."""

    home: Path
    now: datetime = START
    sent: int = 0
    url: str | None = None
    store: Store = field(init=False)
    ring: KeyRing = field(init=False)
    tenant: str = field(init=False)

    def __post_init__(self) -> None:
        self.ring = KeyRing.create(self.home / "keys")
        self.store = self.open()
        self.tenant = self.store.ensure_tenant("acme", self.now).id

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def database(self) -> Path:
        """The SQLite file, for tests that are about it."""
        if self.url is not None:
            pytest.skip("about the SQLite file")
        return self.data / "plora.db"

    @property
    def address(self) -> str:
        return self.url or f"sqlite:///{self.data / 'plora.db'}"

    def open(self, **more) -> Store:
        given = {"keyring": self.ring, "blobs": self.data / "blobs", "now": self.now, "clock": lambda given, _: given}
        return Store.open(self.address, **given | more)

    def reopen(self) -> None:
        self.store.close()
        self.ring = KeyRing.open(self.home / "keys")
        self.store = self.open()

    def later(self, seconds: float = 1) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def sql(self, *statements: str) -> list[tuple]:
        """Run statements on the closed database; the rows of the last one."""
        self.store.close()
        if self.url is not None:
            with psycopg.connect(self.url.replace("//plora:", "//postgres:"), autocommit=True) as connection:
                for statement in statements:
                    cursor = connection.execute(_translated(statement))
                rows = cursor.fetchall() if cursor.description else []
        else:
            connection = sqlite3.connect(self.database, isolation_level=None)
            try:
                for statement in statements:
                    rows = connection.execute(statement).fetchall()
            finally:
                connection.close()
        self.store = self.open()
        return rows

    def event(self, user: str, text: str = "a text", **changes) -> NewEvent:
        self.sent += 1
        facts = {
            "source": "host/1",
            "id": f"event-{self.sent}",
            "user": user,
            "kind": EventKind.EXAMPLE,
            "content": text.encode(),
            "time": self.now,
        }
        return NewEvent(**facts | changes)

    def consent(self, user: str, granted: bool = True, **changes) -> NewEvent:
        return self.event(user, "", kind=EventKind.CONSENT, consent=granted, **changes)

    def record(self, *events: NewEvent) -> list:
        return self.store.record_events(self.tenant, events, self.now)

    def user(self, name: str, examples: int = 3) -> str:
        """A consenting user with some examples; the internal id."""
        outcomes = self.record(self.consent(name), *(self.event(name, f"{name} {i}") for i in range(examples)))
        return outcomes[0].user

    def claimed(self, user: str, lease_s: float = 30) -> Run:
        """An open run of the user, claimed."""
        self.store.open_run(user, "basis-1", "3 fresh examples", self.now)
        return next(run for run in self.store.claim_runs("daemon-1", 100, lease_s, self.now) if run.user == user)

    def finished(self, user: str, adapter: bytes = b"p" * 512, promoted: bool = True):
        """A version of the user, made by a run of its own."""
        run = self.claimed(user)
        return self.store.finish_run(run.id, run.epoch, outcome(adapter, promoted, self.last_seq(user)), self.now)

    def last_seq(self, user: str) -> int:
        return max((event.seq for event in self.store.events(user)), default=0)


def _translated(statement: str) -> str:
    """SQLite's words for bytes in PostgreSQL's."""
    for pattern, said in (
        (r"zeroblob\((\w+\(\w+\)|\d+)\)", r"decode(repeat('00', \1), 'hex')"),
        (r"[xX]'([0-9a-fA-F]*)'", r"'\\x\1'::bytea"),
        (r"AS BLOB", "AS bytea"),
        (r"hex\((\w+)\)", r"upper(encode(\1, 'hex'))"),
        (r"(?<![\w\"'.])user(?![\w\"'])", '"user"'),
        (r"randomblob\(16\)", "uuid_send(gen_random_uuid())"),
    ):
        statement = re.sub(pattern, said, statement)
    return statement.replace("%", "%%")


def outcome(
    adapter: bytes = b"p" * 512, promoted: bool = True, watermark_seq: int = 0, statistics: bytes | None = None
) -> FinishedRun:
    return FinishedRun(
        adapter=adapter,
        promoted=promoted,
        code="beats_generic" if promoted else "worse_than_current",
        reason="because",
        scores="{}",
        base="base-1",
        basis="basis-1",
        watermark_seq=watermark_seq,
        statistics=statistics,
    )


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    started = PostgresServer()
    yield started
    started.stop()


@pytest.fixture
def postgres(server) -> Iterator[str]:
    """The URL of a new database."""
    url = server.make()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, tmp_path):
    """One suite for every database: another one is another parameter."""
    made = World(tmp_path, url=request.getfixturevalue("postgres") if request.param == "postgres" else None)
    yield made
    if made.store is not None:
        made.store.close()


@pytest.fixture(name="outcome")
def outcome_fixture():
    return outcome


@pytest.fixture
def new_world(tmp_path_factory):
    """As many worlds as wanted."""
    made = []

    def make() -> World:
        made.append(World(tmp_path_factory.mktemp("world")))
        return made[-1]

    yield make
    for each in made:
        each.store.close()
