import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from storage import DiskFailed, DiskFull, SchemaTooNew, Store, StoreDamaged, StoreInUse, UnsupportedDatabase
from storage.sqlite import translate
from storage.tables import metadata

ROOT = Path(__file__).parents[2]


def child(world, code: str, *, prefix: str = "") -> subprocess.CompletedProcess:
    """Run `code` in another process, where `open_store()` opens the world's store, closed here."""
    world.store.close()
    program = textwrap.dedent(
        f"""
        from datetime import datetime, UTC
        from pathlib import Path
        from storage import *
        now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        def open_store():
            ring = KeyRing.open(Path({str(world.home / "keys")!r}))
            blobs = Path({str(world.data / "blobs")!r})
            return Store.open("sqlite:///{world.database}", keyring=ring, blobs=blobs, now=now)
        def event(user, number, text):
            return NewEvent(source="s", id=str(number), user=user, kind=EventKind.EXAMPLE, content=text, time=now)
        """
    ) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


def test_a_store_opened_again_holds_what_it_held(world):
    user = world.user("alice")
    world.finished(user, b"adapter")
    world.reopen()
    assert world.store.current_adapter(user).content == b"adapter"
    assert len(world.store.events(user)) == 4


def test_closing_twice_is_harmless(world):
    lock = None if world.url else world.store._database._lock
    world.store.close()
    if lock is not None:
        other = os.open(os.devnull, os.O_RDONLY)
        os.dup2(other, lock)  # the number is another file's now
    world.store.close()
    if lock is not None:
        for each in {other, lock}:
            os.close(each)  # and still is
    world.reopen()
    assert world.store.ensure_tenant("acme", world.now).id == world.tenant


def test_a_second_store_on_the_same_file_is_refused_also_from_another_process(world):
    assert world.database.exists()
    with pytest.raises(StoreInUse):
        world.open()
    program = f"""
from pathlib import Path
from datetime import datetime, UTC
from storage import KeyRing, Store, StoreInUse
ring = KeyRing.open(Path({str(world.home / "keys")!r}))
try:
    Store.open("sqlite:///{world.database}", keyring=ring, blobs=Path("/nowhere"), now=datetime(2026, 1, 1, tzinfo=UTC))
except StoreInUse as refused:
    print(refused)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "is locked by a running daemon" in answer.stdout


def test_the_lock_goes_with_its_process(world):
    answer = child(world, "open_store(); import os; os.kill(os.getpid(), 9)")
    assert answer.returncode == -9
    world.store = world.open()
    assert world.store.tenants()


def test_what_was_acknowledged_before_a_kill_is_there(world):
    answer = child(
        world,
        """
        import os
        store = open_store()
        tenant = store.tenants()[0].id
        store.record_events(tenant, [event("alice", n, b"text") for n in range(5)], now)
        os.kill(os.getpid(), 9)
        """,
    )
    assert answer.returncode == -9
    world.store = world.open()
    assert len(world.store.events(world.store.user(world.tenant, "alice").id)) == 5


def test_a_newer_schema_is_refused_untouched(world):
    assert world.database.exists()
    world.user("alice")
    with pytest.raises(SchemaTooNew, match="'9999'"):
        world.sql("UPDATE alembic_version SET version_num = '9999'", "UPDATE compatibility SET oldest = '9999'")
    before = world.database.read_bytes()
    with pytest.raises(SchemaTooNew):
        world.open()
    assert world.database.read_bytes() == before
    connection = sqlite3.connect(world.database)
    connection.execute("UPDATE alembic_version SET version_num = '0005'")
    connection.commit()
    connection.close()
    world.store = world.open()


def test_after_a_sync_that_failed_nothing_is_written_until_a_new_start(world):
    """The kernel may have dropped what it could not write, and the next sync would succeed without it."""
    assert world.database.exists()
    user = world.user("alice")
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    with pytest.raises(DiskFailed), world.store._write(world.now):
        raise failed
    assert world.store.failed
    with pytest.raises(DiskFailed, match="an earlier sync failed"):
        world.user("bob")
    with pytest.raises(DiskFailed):
        world.store.scrub(world.now)
    assert len(world.store.events(user)) == 4
    world.reopen()
    assert not world.store.failed
    assert world.user("bob")


def test_the_migrations_make_exactly_the_tables(world):
    world.store.close()
    engine = create_engine(f"sqlite:///{world.database}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        made = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql LIKE '%WHERE%'").fetchall()
        tables = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'").fetchall()
    engine.dispose()
    fresh = create_engine("sqlite://")
    with fresh.connect() as connection:
        metadata.create_all(connection)
        wanted = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql LIKE '%WHERE%'").fetchall()
    fresh.dispose()
    assert sorted(made) == sorted(wanted)
    assert len(tables) == 8
    world.store = world.open()


def test_every_file_of_the_data_directory_is_ours_alone(world):
    world.user("alice")
    assert world.database.exists()
    files = [path for path in world.data.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"plora.db", "plora.db-wal", "plora.db-shm", "plora.db.lock"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_database_readable_by_others_is_closed_to_them(world):
    world.store.close()
    world.database.chmod(0o644)
    world.store = world.open()
    assert world.database.stat().st_mode & 0o777 == 0o600


def test_every_connection_has_the_settings_that_promises_rest_on(world):
    assert world.database.exists()
    needed = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "trusted_schema": 0}
    database = world.store._database
    with database.write() as writing, database.read() as reader:
        for connection, autocheckpoint in ((writing.connection, 1000), (reader, 0)):
            found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in needed}
            assert found == needed
            assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == autocheckpoint


def test_a_reader_can_not_write(world):
    assert world.database.exists()
    with pytest.raises(DiskFailed), world.store._database.read() as connection:
        connection.exec_driver_sql("DELETE FROM events")


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused(world, content):
    world.store.close()
    kept = world.database.read_bytes()
    world.database.write_bytes(content)
    with pytest.raises(StoreDamaged):
        world.open()
    assert world.database.read_bytes() == content
    world.database.write_bytes(kept)
    world.store = world.open()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "nonsense", "sqlite:///x?mode=ro"])
def test_an_address_that_is_no_file_is_refused(world, url):
    with pytest.raises(UnsupportedDatabase):
        Store.open(url, keyring=world.ring, blobs=world.data / "blobs", now=world.now)


FILL = """
    import resource
    store = open_store()
    tenant = store.tenants()[0].id
    store.record_events(tenant, [event("alice", "first", b"kept")], now)
    user = store.user(tenant, "alice").id
    {limit}
    stored = 1
    try:
        for number in range(2000):
            batch = [event("alice", number, b"x" * 60_000), event("bob", -number, b"y" * 2000)]
            store.record_events(tenant, batch, now)
            stored += 1
    except DiskFull as full:
        assert "nothing was written" in str(full), full
    else:
        raise SystemExit("the disk never became full")
    try:
        store.open_basis(tenant, "n", "", now)
        basis = store.claim_basis("me", 60, now)
        store.finish_basis(basis.id, basis.epoch, "f", "b", b"z" * 3_000_000, "[]", now)
    except DiskFull:
        pass
    else:
        raise SystemExit("a basis fitted on a full disk")
    assert len(store.events(user)) == stored, (len(store.events(user)), stored)
    assert store.activity(user, now).total == stored
    assert [path for path in Path({blobs!r}).iterdir()] == []
    assert store.verify_audit().ok
    {relief}
    assert store.record_events(tenant, [event("alice", "last", b"again")], now)[0].duplicate is False
    print("stored", stored)
"""


def test_a_full_disk_is_told_and_leaves_nothing_half_written(world):
    """A file size limit stands in for the disk: the write that does not fit fails in the same place."""
    code = FILL.format(
        limit="resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))",
        relief="resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))",
        blobs=str(world.data / "blobs"),
    )
    answer = child(world, code)
    assert answer.returncode == 0, answer.stderr
    assert "stored" in answer.stdout
    world.store = world.open()
    assert world.sql("PRAGMA integrity_check") == [("ok",)]


def test_a_file_system_without_space_is_told(world):
    world.store.close()
    small = world.data / "blobs"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", str(world.data)], capture_output=True, check=False
    )
    if mounted.returncode:
        world.store = world.open()
        pytest.skip("mounting needs privileges")
    try:
        world.store = world.open()
        world.store.ensure_tenant("acme", world.now)
        relief = f"Path({str(world.data / 'ballast')!r}).unlink()"
        (world.data / "ballast").write_bytes(bytes(1_500_000))
        answer = child(world, FILL.format(limit="", relief=relief, blobs=str(small)))
        assert answer.returncode == 0, answer.stderr
    finally:
        subprocess.run(["umount", str(world.data)], check=True)
        world.store = world.open()


@pytest.mark.parametrize(
    ("problem", "meaning"),
    [
        (OSError(28, "No space left on device"), DiskFull),
        (OSError(122, "Disk quota exceeded"), DiskFull),
        (OSError(5, "Input/output error"), DiskFailed),
        (OSError(2, "No such file"), type(None)),
        (ValueError(), type(None)),
        (None, type(None)),
    ],
)
def test_foreign_errors_are_translated(problem, meaning):
    assert type(translate(problem, Path("x"))) is meaning


def test_nothing_of_a_transaction_that_fails_remains(world):
    def fail():
        with world.store._write(world.now) as tx:
            tx.audit("", "someone", "x", "y", "z")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert all(row[0] != "someone" for row in world.sql("SELECT actor FROM audit"))


def test_importing_storage_brings_nothing_heavy():
    code = "import sys, storage; print([m for m in ('torch', 'ray', 'fastapi', 'httpx', 'numpy') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"
    assert os.path.exists(ROOT / "storage" / "migrations" / "env.py")
