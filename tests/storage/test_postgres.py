"""What only PostgreSQL has: several daemons, tenants kept apart by the server, and connections that break."""

import multiprocessing
import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from storage import (
    AdapterVersion,
    CommitUnknown,
    EventKind,
    FinishedRun,
    KeyRing,
    NewEvent,
    Recorded,
    RoleBypassesIsolation,
    Store,
    StoreAway,
    WrongPragma,
)
from storage.postgres import Postgres
from tests.storage.breaking import BreakingProxy

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def ring(tmp_path) -> KeyRing:
    return KeyRing.create(tmp_path / "keys")


@pytest.fixture
def store(postgres, ring, tmp_path):
    opened = Store.open(postgres, keyring=ring, blobs=tmp_path / "blobs", now=NOW)
    yield opened
    opened.close()


def event(user: str, number: int) -> NewEvent:
    return NewEvent("host", f"{user}-{number}", user, EventKind.EXAMPLE, b"text %d" % number, NOW)


def outcome(seq: int) -> FinishedRun:
    return FinishedRun(
        adapter=b"p" * 64,
        promoted=True,
        code="beats_generic",
        reason="",
        scores="{}",
        base="base",
        basis="basis",
        watermark_seq=seq,
    )


def daemon(url: str, keys, blobs, number: int, told) -> None:
    """One of several: records what the others record too, and carries out whatever run it gets."""
    opened = Store.open(url, keyring=KeyRing.open(keys), blobs=blobs, now=NOW)
    tenant = opened.ensure_tenant("acme", NOW).id
    recorded, made = [], []
    for at in range(30):
        events = [event(f"user-{(at * 3 + each) % 20}", at) for each in range(4)]
        for found in opened.record_events(tenant, events, NOW, default_consent=True):
            recorded.append((found.seq, found.duplicate))
    for _ in range(8):
        due = opened.due_users(datetime(2100, 1, 1, tzinfo=UTC), 20)
        opened.open_runs([(user, "basis", "due") for user in due], NOW)
        claimed = opened.claim_runs(f"daemon-{number}", 3, 30, NOW)
        outcomes = [(run.id, run.epoch, outcome(opened.events(run.user)[-1].seq)) for run in claimed]
        for finished in opened.finish_runs(outcomes, NOW):
            assert isinstance(finished, AdapterVersion)
            made.append((finished.run, finished.user, finished.version))
    opened.close()
    told.put((recorded, made))


def test_several_daemons_record_and_finish_everything_exactly_once(postgres, ring, tmp_path, store):
    tenant = store.ensure_tenant("acme", NOW).id
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    arguments = (postgres, tmp_path / "keys", tmp_path / "blobs")
    daemons = [context.Process(target=daemon, args=(*arguments, number, told)) for number in range(3)]
    for each in daemons:
        each.start()
    answers = [told.get(timeout=120) for _ in daemons]
    for each in daemons:
        each.join()
    first = Counter(seq for recorded, _ in answers for seq, duplicate in recorded if not duplicate)
    assert set(first.values()) == {1}
    assert len(first) == 120
    assert sum(len(store.events(user.id)) for user in store.users(tenant)) == 120
    made = [version for _, versions in answers for version in versions]
    assert len({run for run, _, _ in made}) == len(made)
    assert len({(user, version) for _, user, version in made}) == len(made)
    assert len({user for _, user, _ in made}) == 20
    assert store.verify_audit().ok


def test_newcomers_and_old_users_of_many_daemons_in_one_batch_never_wait_in_a_circle(postgres, ring, tmp_path, store):
    tenant = store.ensure_tenant("acme", NOW).id
    daemons = [Store.open(postgres, keyring=ring, blobs=tmp_path / "blobs", now=NOW) for _ in range(4)]
    problems: list[Exception] = []

    def record(opened: Store, number: int) -> None:
        order = random.Random(number)
        try:
            for at in range(40):
                whom = [at // 2 * 4 + each for each in range(8)]  # half of them newcomers, the same for everybody
                order.shuffle(whom)
                batch = [event(f"user-{each}", at * 10 + number) for each in whom]
                opened.record_events(tenant, batch, NOW, default_consent=True)
        except Exception as problem:  # noqa: BLE001
            problems.append(problem)

    threads = [threading.Thread(target=record, args=(opened, n)) for n, opened in enumerate(daemons)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for opened in daemons:
        opened.close()
    assert problems == []


def test_claims_of_many_threads_never_meet(store):
    tenant = store.ensure_tenant("acme", NOW).id
    store.record_events(tenant, [event(f"user-{n}", 1) for n in range(200)], NOW, default_consent=True)
    store.open_runs([(user.id, "basis", "due") for user in store.users(tenant, 200)], NOW)
    claimed: list[int] = []

    def claim() -> None:
        while runs := store.claim_runs("daemon", 7, 60, NOW):
            claimed.extend(run.id for run in runs)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(claimed) == len(set(claimed)) == 200


def test_a_tenants_store_sees_and_changes_nobody_elses_rows(store):
    ours, theirs = store.ensure_tenant("ours", NOW).id, store.ensure_tenant("theirs", NOW).id
    store.record_events(ours, [event("alice", 1)], NOW, default_consent=True)
    store.record_events(theirs, [event("bob", 1)], NOW, default_consent=True)
    [bob] = store.users(theirs)
    narrowed = store.within(ours)
    assert narrowed.user_by_id(bob.id) is None
    assert narrowed.users(theirs) == []
    assert store.user_by_id(bob.id) == bob
    for table in ("users", "events", "data_keys", "tenants"):
        with narrowed._read() as connection:
            column = "id" if table == "tenants" else "tenant"
            seen = set(connection.execute(text(f"SELECT {column} FROM {table}")).scalars())  # noqa: S608
        assert seen == {ours}
    with narrowed._write(NOW) as tx:
        assert tx.connection.execute(text("UPDATE users SET fresh = 99")).rowcount == 1
        assert tx.connection.execute(text("DELETE FROM events WHERE tenant = :t"), {"t": theirs}).rowcount == 0
    with pytest.raises(Exception, match="row-level security"), narrowed._write(NOW) as tx:
        tx.connection.execute(text("UPDATE users SET tenant = :t"), {"t": theirs})
    with store._database._engine.connect() as without_scope:
        assert without_scope.execute(text("SELECT count(*) FROM users")).scalar() == 0


def test_a_role_that_row_level_security_does_not_bind_is_refused(server, postgres, ring, tmp_path):
    with pytest.raises(RoleBypassesIsolation):
        Postgres(postgres.replace("//plora:", "//postgres:"))


def test_a_password_shows_nowhere(tmp_path):
    with pytest.raises(StoreAway) as refused:
        Postgres("postgresql://plora:hunter2@127.0.0.1:9/db")
    assert "hunter2" not in str(refused.value) + repr(refused.value)


def test_a_lease_ends_by_the_databases_clock(store):
    """Whatever a daemon takes for the time."""
    tenant = store.ensure_tenant("acme", NOW).id
    [recorded] = store.record_events(tenant, [event("alice", 1)], NOW, default_consent=True)
    for wrong in (NOW - timedelta(days=400), NOW + timedelta(days=4_000)):
        run = store.open_run(recorded.user, "basis", "due", wrong)
        [claimed] = store.claim_runs("daemon-1", 5, 60, wrong)
        assert claimed.id == run.id
        assert store.claim_runs("daemon-2", 5, 60, wrong + timedelta(days=10_000)) == []
        assert store.extend_leases([(claimed.id, claimed.epoch)], 60, wrong) == {claimed.id}
        store.finish_run(claimed.id, claimed.epoch, outcome(recorded.seq), wrong)


@pytest.mark.parametrize("delivered", [True, False])
def test_after_a_connection_that_broke_in_commit_the_store_knows(delivered, postgres, ring, tmp_path, store):
    tenant = store.ensure_tenant("acme", NOW).id
    with BreakingProxy(postgres) as proxy:
        through = Store.open(proxy.url, keyring=ring, blobs=tmp_path / "blobs", now=NOW)
        proxy.break_at_commit(delivered=delivered)
        if delivered:
            [found] = through.record_events(tenant, [event("alice", 1)], NOW)
            assert isinstance(found, Recorded)
            assert not found.duplicate
        else:
            with pytest.raises(StoreAway):
                through.record_events(tenant, [event("alice", 1)], NOW)
        assert proxy.broken == 1
        [again] = through.record_events(tenant, [event("alice", 1)], NOW)
        assert again.duplicate is delivered
        through.close()
    [user] = store.users(tenant)
    assert len(store.events(user.id)) == 1


def test_a_server_that_stays_away_after_commit_is_not_guessed_about(postgres, ring, tmp_path, store):
    tenant = store.ensure_tenant("acme", NOW).id
    with BreakingProxy(postgres) as proxy:
        through = Store.open(proxy.url, keyring=ring, blobs=tmp_path / "blobs", now=NOW)
        proxy.break_at_commit(delivered=True, for_good=True)
        with pytest.raises(CommitUnknown, match="send the same again"):
            through.record_events(tenant, [event("alice", 1)], NOW)
        through.close()
    [again] = store.record_events(tenant, [event("alice", 1)], NOW)
    assert again.duplicate


def test_a_pooled_connection_that_was_ended_is_replaced(server, postgres, store):
    tenant = store.ensure_tenant("acme", NOW).id
    database = postgres.partition("?")[0].rpartition("/")[2]
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"  # noqa: S608
    server.sql(ended)
    assert store.users(tenant) == []
    server.sql(ended)
    assert len(store.record_events(tenant, [event("alice", 1)], NOW)) == 1


def test_a_transaction_ended_in_the_middle_leaves_nothing(server, store):
    tenant = store.ensure_tenant("acme", NOW).id
    with pytest.raises(StoreAway):
        _end_in_the_middle(server, store)
    assert [each.name for each in store.tenants() if each.id == tenant] == ["acme"]


def _end_in_the_middle(server, store) -> None:
    with store._write(NOW) as tx:
        tx.connection.execute(text("UPDATE tenants SET name = 'other'"))
        pid = tx.connection.execute(text("SELECT pg_backend_pid()")).scalar()
        server.sql(f"SELECT pg_terminate_backend({pid})")
        tx.connection.execute(text("SELECT 1"))


def test_a_server_that_does_not_sync_is_refused(server, postgres):
    server.sql("ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
    try:
        with psycopg.connect(postgres, autocommit=True) as connection:
            while connection.execute("SHOW full_page_writes").fetchone() != ("off",):
                connection.execute("SELECT pg_sleep(0.02)")
        with pytest.raises(WrongPragma, match="full_page_writes"):
            Postgres(postgres)
    finally:
        server.sql("ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")


def test_daemons_that_start_together_migrate_once(server, ring, tmp_path):
    url = server.make(migrated=False)
    opened: list[Store] = []
    threads = [
        threading.Thread(
            target=lambda at=at: opened.append(Store.open(url, keyring=ring, blobs=tmp_path / f"{at}", now=NOW))
        )
        for at in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(opened) == 4
    for each in opened:
        each.close()
    server.drop(url)
