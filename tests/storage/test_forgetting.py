"""Forgetting, and the rotation of keys that makes older copies useless."""

import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event as Flag

import pytest

from storage import EventKind, KeyRing, Recorded, StaleEpoch, Store, UnknownUser, Unreadable, UserForgotten, UserState


def bytes_on_disk(world) -> bytes:
    """Every byte of the data directory, read by another process: closing a file here would drop SQLite's locks."""
    return subprocess.run(
        ["find", world.data, "-type", "f", "-exec", "cat", "{}", "+"], capture_output=True, check=True
    ).stdout


def about_files(world) -> None:
    """Skip on PostgreSQL, whose files lie elsewhere: test_old_copies.py is about them."""
    assert world.database.exists()


def windows(secret: bytes) -> set[bytes]:
    return {secret[at : at + 16] for at in range(max(1, len(secret) - 15))}


def found(disk: bytes, secrets: list[bytes]) -> int:
    """How many of `secrets` have a 16-byte window on the disk."""
    wanted = {}
    for number, secret in enumerate(secrets):
        for window in windows(secret):
            wanted.setdefault(window, number)
    length = min(len(window) for window in wanted)
    assert length == 16
    return len({wanted[disk[at : at + 16]] for at in range(len(disk) - 15) if disk[at : at + 16] in wanted})


def wrapped_keys(world) -> dict[str, bytes]:
    return dict(world.sql("SELECT owner, wrapped FROM data_keys"))


def busy_world(world, count: int) -> dict[str, str]:
    """Users with texts of many sizes, adapters and rollbacks; external id to internal id."""
    dice = random.Random(7)
    names = [f"user-{number:04d}-of-acme@example.com" for number in range(count)]
    for _ in range(3):
        dice.shuffle(names)
        for name in names:
            texts = [f"{name} wrote {'something secret ' * dice.randrange(1, 90)}" for _ in range(dice.randrange(1, 4))]
            world.record(world.consent(name, time=world.later()), *(world.event(name, text) for text in texts))
    made = {name: world.store.user(world.tenant, name).id for name in names}
    for user in list(made.values())[: count // 2]:
        world.finished(user, f"adapter of {user}".encode() * 10)
    return made


def test_nothing_readable_is_on_the_disk_even_of_those_who_stay(world):
    about_files(world)
    names = busy_world(world, 10)
    contents = [event.content for user in names.values() for event in world.store.events(user) if event.content]
    disk = bytes_on_disk(world)
    assert found(disk, [name.encode() for name in names]) == 0
    assert found(disk, contents) == 0
    assert b"adapter of" not in disk
    assert b"host/1" not in disk
    assert b"event-1" not in disk


def test_after_forgetting_no_window_of_key_id_or_text_is_in_any_file(world):
    about_files(world)
    names = busy_world(world, 40)
    keys = wrapped_keys(world)
    gone = random.Random(1).sample(sorted(names), 20)
    texts = [event.content for name in gone for event in world.store.events(names[name]) if event.content]
    assert found(bytes_on_disk(world), [keys[names[name]] for name in gone]) == 20  # the test can see a key
    for number, name in enumerate(gone):
        assert world.store.forget(world.tenant, name, "operator", world.later()).complete
        stays = next(name for name in names if name not in gone)
        world.record(*(world.event(stays, "more " * 50) for _ in range(number % 3)))
    secrets = [*(keys[names[name]] for name in gone), *(name.encode() for name in gone), *texts]
    assert found(bytes_on_disk(world), secrets) == 0
    world.reopen()
    assert found(bytes_on_disk(world), secrets) == 0
    for name, user in names.items():
        if name not in gone:
            assert world.store.external_id(user) == name
            assert world.store.events(user)
    assert world.store.verify_audit().ok


def test_a_forgotten_user_is_nowhere_to_be_read(world):
    user = world.user("alice")
    world.finished(user)
    receipt = world.store.forget(world.tenant, "alice", "operator", world.now)
    stages = ["fenced", "key_destroyed", "rows_deleted", "scrubbed", "epoch_rolled"]
    assert [stage.name for stage in receipt.stages] == stages
    assert (receipt.user, receipt.complete, receipt.final) == (user, True, False)
    assert (receipt.events, receipt.versions) == (4, 1)
    assert world.store.events(user) == []
    assert world.store.versions(user) == []
    assert world.store.current_adapter(user) is None
    assert world.store.activity(user, world.now).forgotten
    assert world.store.due_users(world.now, 10) == []
    assert world.store.population(world.tenant, 10) == []
    assert world.store.user(world.tenant, "alice").state is UserState.FORGOTTEN
    with pytest.raises(UnknownUser):
        world.store.external_id(user)


def test_forgetting_again_or_nobody_is_harmless(world):
    world.user("alice")
    first = world.store.forget(world.tenant, "alice", "operator", world.now)
    again = world.store.forget(world.tenant, "alice", "operator", world.later())
    assert (again.user, again.stages) == (first.user, first.stages)
    assert world.store.forget(world.tenant, "nobody", "operator", world.now) is None


def test_a_result_on_its_way_is_refused(world, outcome):
    run = world.claimed(world.user("alice"))
    receipt = world.store.forget(world.tenant, "alice", "operator", world.now)
    assert receipt.runs == 1
    with pytest.raises(StaleEpoch):
        world.store.finish_run(run.id, run.epoch, outcome(), world.now)
    with pytest.raises(StaleEpoch):
        world.store.finish_run(run.id, run.epoch + 1, outcome(), world.now)
    assert world.store.claim_runs("two", 10, 30, world.later(3600)) == []


def test_late_duplicates_do_not_revive_a_user(world):
    sent = [world.consent("alice"), *(world.event("alice", f"text {number}") for number in range(5))]
    world.record(*sent)
    world.store.forget(world.tenant, "alice", "operator", world.later())
    world.later()
    late = [*sent, world.event("alice", "new"), world.consent("alice", time=None), world.consent("alice", False)]
    assert {type(each) for each in world.record(*late)} == {UserForgotten}
    assert world.sql("SELECT count(*) FROM events") == [(0,)]


def test_new_consent_makes_a_new_user_with_a_new_key(world):
    old = world.user("alice")
    world.store.forget(world.tenant, "alice", "operator", world.now)
    refused, taken, example = world.record(
        world.event("alice"), world.consent("alice", time=world.later()), world.event("alice", "again")
    )
    assert isinstance(refused, UserForgotten)
    assert isinstance(taken, Recorded)
    assert taken.user == example.user != old
    assert world.store.user(world.tenant, "alice").id == taken.user
    assert world.store.user_by_id(old).state is UserState.FORGOTTEN
    assert [event.content for event in world.store.events(taken.user)] == [b"", b"again"]
    assert world.store.forget(world.tenant, "alice", "operator", world.later()).user == taken.user


def test_forgetting_one_of_a_tenant_leaves_the_other_tenants_user_of_that_name(world):
    other = world.store.ensure_tenant("other", world.now).id
    world.user("alice")
    [theirs] = world.store.record_events(other, [world.event("alice")], world.now)
    world.store.forget(world.tenant, "alice", "operator", world.now)
    assert len(world.store.events(theirs.user)) == 1


@contextmanager
def slow_reader(world):
    """A snapshot taken now and held open; checkpoints give up on it at once. Yields its connection."""
    about_files(world)
    with world.store._database._writer.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA busy_timeout = 50")
    with world.store._database.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM events").fetchall()
        yield connection


def test_a_reader_in_the_way_leaves_the_scrubbing_for_later(world):
    """The receipt says so, and opening the store completes it."""
    world.user("alice")
    with slow_reader(world):
        receipt = world.store.forget(world.tenant, "alice", "operator", world.now)
        assert not world.store.scrub(world.now)
    assert [stage.at for stage in receipt.stages] == [world.now] * 3 + [None] * 2
    assert not receipt.complete
    world.later()
    world.reopen()
    again = world.store.forget(world.tenant, "alice", "operator", world.now)
    assert again.stages[3].at == world.now


def test_a_reader_of_an_older_snapshot_does_not_bring_a_key_back_into_memory(world):
    user = world.user("alice")
    with slow_reader(world) as connection:
        world.store.forget(world.tenant, "alice", "operator", world.now)
        assert world.store._keys.get(connection, user).owner == user  # it looks at what was before
    assert world.store.scrub(world.now)
    assert user not in world.store._keys._known


def test_an_old_epoch_is_kept_while_a_reader_may_need_it(world):
    user = world.user("alice")
    with slow_reader(world) as connection:
        rotated = world.store.roll_epoch(world.now)
        assert (rotated.destroyed, rotated.pending) == ((), (1,))
        world.store._keys.purge(user)
        assert world.store._keys.get(connection, user).owner == user
    assert world.store.roll_epoch(world.now).destroyed == (1, 2)
    assert len(world.store.events(user)) == 4


def test_rotation_keeps_every_read_working(world):
    names = busy_world(world, 12)
    before = {user: world.store.events(user) for user in names.values()}
    rotated = world.store.roll_epoch(world.now)
    assert (rotated.rewrapped, rotated.epoch, rotated.destroyed, rotated.pending) == (13, 2, (1,), ())
    world.reopen()
    assert world.ring.epochs() == (2,)
    assert {user: world.store.events(user) for user in names.values()} == before
    assert [world.store.external_id(user) for user in names.values()] == list(names)
    assert world.store.verify_audit().ok


def test_readers_go_on_while_keys_rotate(world):
    user = world.user("alice")
    stop, reads = Flag(), []

    def read_on():
        while not stop.is_set():
            world.store._keys.purge(user)
            reads.append(len(world.store.events(user)))

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read_on) for _ in range(3)]
        epochs = [world.store.roll_epoch(world.now).epoch for _ in range(5)]
        stop.set()
        assert [reader.result() for reader in readers] == [None] * 3
    assert epochs == [2, 3, 4, 5, 6]
    assert set(reads) == {4}


def test_an_interrupted_rotation_reads_and_completes(world):
    user = world.user("alice")
    world.ring.new_epoch()  # as if killed before anything was rewrapped
    world.record(world.event("bob"))
    world.reopen()
    assert len(world.store.events(user)) == 4
    assert world.store.roll_epoch(world.now).destroyed == (1, 2)
    world.reopen()
    assert len(world.store.events(user)) == 4


def test_copies_made_before_forgetting_are_useless_after_a_rotation(world, tmp_path):
    about_files(world)
    gone, stays = world.user("alice"), world.user("bob")
    world.store.close()
    shutil.copytree(world.data, tmp_path / "copy" / "data")
    world.store = world.open()
    world.store.forget(world.tenant, "alice", "operator", world.now)

    def open_copy() -> Store:
        url = f"sqlite:///{tmp_path}/copy/data/plora.db"
        ring = KeyRing.open(world.home / "keys")
        return Store.open(url, keyring=ring, blobs=tmp_path / "copy/data/blobs", now=world.now)

    copy = open_copy()
    assert len(copy.events(gone)) == 4  # before the rotation a copy still can be read: the test sees
    copy.close()
    world.store.roll_epoch(world.now)
    with pytest.raises(Exception, match="does not open"):
        open_copy()
    assert len(world.store.events(stays)) == 4


def test_the_key_of_a_forgotten_user_leaves_the_memory_too(world):
    user = world.user("alice")
    world.store.events(user)
    assert user in world.store._keys._known
    world.store.forget(world.tenant, "alice", "operator", world.now)
    assert user not in world.store._keys._known
    with pytest.raises(Unreadable), world.store._database.read() as connection:
        world.store._keys.get(connection, user)


def test_few_keys_are_remembered_and_all_still_work(world):
    world.store._keys._cached = 3
    users = [world.user(f"user-{number}", 1) for number in range(8)]
    assert [len(world.store.events(user)) for user in (*users, *users)] == [2] * 16
    assert len(world.store._keys._known) == 3


def test_consents_are_kept_like_other_events(world):
    [recorded] = world.record(world.consent("alice", time=world.now - timedelta(days=1)))
    assert [event.kind for event in world.store.events(recorded.user)] == [EventKind.CONSENT]
