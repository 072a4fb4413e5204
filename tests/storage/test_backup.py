"""Backups, and the drill: erase after the backup was made, lose the data, restore, and find nobody back."""

import random
import shutil
import sqlite3
from datetime import timedelta
from time import perf_counter

import pytest

from storage import BackupRefused, KeyRing, Store, UserForgotten, WrongKeyRing, backup
from storage.exports import Exports
from storage.fileblobs import FileBlobs
from tests.faults.figures import record

SEED = 20_261_124


def shut(world):
    """Close the world's store, once."""
    store, world.store = world.store, None
    if store is not None:
        store.close()


def places(world):
    return FileBlobs(world.data / "blobs"), FileBlobs(world.home / "export")


def opened(world) -> Store:
    """The world's store, opened again with a place for exports. PostgreSQL has backups of its own: skipped."""
    assert world.database.parent.exists() or world.store is None
    shut(world)
    world.ring = KeyRing.open(world.home / "keys")
    blobs, exports = places(world)
    world.store = world.open(blobs=blobs, exports=exports)
    return world.store


def restored(world, source) -> Store:
    """Lose the data, put the backup back, and start."""
    shut(world)
    shutil.rmtree(world.data)
    blobs, exports = places(world)
    backup.restore(source, world.database, blobs, Exports(exports, world.ring.signer()), world.later())
    return opened(world)


def with_basis(world) -> str:
    store = world.store
    store.open_basis(world.tenant, "main", "", world.now)
    claimed = store.claim_basis("test", 60, world.now)
    store.finish_basis(claimed.id, claimed.epoch, "f1", "ba5e", b"the basis" * 500, "{}", world.now)
    return "f1"


def test_a_backup_of_a_running_store_comes_back(world, tmp_path):
    store = opened(world)
    fingerprint = with_basis(world)
    user = world.user("alice")
    world.finished(user)
    made = backup.back_up(world.database, FileBlobs(world.data / "blobs"), tmp_path / "backup", world.now)
    assert len(made.files) == 2
    assert made.missing == ()
    assert store.events(user)  # the store went on
    store = restored(world, tmp_path / "backup")
    assert len(store.events(user)) == 4
    assert store.current_adapter(user) is not None
    assert store.basis_content(fingerprint, world.tenant) == b"the basis" * 500


def test_no_key_is_in_a_backup(world, tmp_path):
    opened(world)
    world.user("alice")
    backup.back_up(world.database, FileBlobs(world.data / "blobs"), tmp_path / "backup", world.now)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "backup").rglob("*") if path.is_file())
    for key in (world.home / "keys").iterdir():
        assert key.read_bytes() not in everything
    assert b"alice" not in everything


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "link", "manifest", "name"])
def test_a_damaged_backup_is_refused_and_leaves_no_database(world, tmp_path, harm):
    opened(world)
    with_basis(world)
    source = tmp_path / "backup"
    backup.back_up(world.database, FileBlobs(world.data / "blobs"), source, world.now)
    victim = next((source / "blobs").iterdir())
    content = victim.read_bytes()
    if harm == "flip":
        victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif harm == "cut":
        victim.write_bytes(content[:-1])
    elif harm == "manifest":
        (source / "manifest.json").write_text("{}")
    elif harm == "name":
        text = (source / "manifest.json").read_text()
        (source / "manifest.json").write_text(text.replace("plora.db", "../x.db"))
    else:
        victim.unlink()
        if harm == "link":
            victim.symlink_to("/etc/passwd")
    shut(world)
    shutil.rmtree(world.data)
    with pytest.raises(BackupRefused):
        backup.restore(source, world.database, FileBlobs(world.data / "blobs"), None, world.now)
    assert not world.database.exists()
    world.store = world.open()


def test_nothing_is_overwritten(world, tmp_path):
    opened(world)
    blobs = FileBlobs(world.data / "blobs")
    backup.back_up(world.database, blobs, tmp_path / "backup", world.now)
    with pytest.raises(BackupRefused, match="exists already"):
        backup.back_up(world.database, blobs, tmp_path / "backup", world.now)
    with pytest.raises(BackupRefused, match="a database is there"):
        backup.restore(tmp_path / "backup", world.database, blobs, None, world.now)
    with pytest.raises(BackupRefused, match="no database"):
        backup.back_up(tmp_path / "none.db", blobs, tmp_path / "other", world.now)


def test_the_audit_log_tells_of_the_restore_and_still_verifies(world, tmp_path):
    store = opened(world)
    world.user("alice")
    store.checkpoint_audit(world.later())
    backup.back_up(world.database, FileBlobs(world.data / "blobs"), tmp_path / "backup", world.later())
    world.user("bob")
    store.checkpoint_audit(world.later())
    store = restored(world, tmp_path / "backup")
    report = store.verify_audit()
    assert (report.ok, report.restored) == (True, 1)
    world.user("carol")
    store.checkpoint_audit(world.later())
    assert store.verify_audit().ok
    shut(world)  # the same older copy again, and nobody said so
    shutil.rmtree(world.data)
    world.data.mkdir(mode=0o700)
    shutil.copy(tmp_path / "backup" / "plora.db", world.database)
    assert opened(world).verify_audit().problem == "truncated"


def test_a_backup_from_before_a_roll_opens_but_for_the_erased(world, tmp_path):
    store = opened(world)
    gone, stays = world.user("alice"), world.user("bob")
    backup.back_up(world.database, FileBlobs(world.data / "blobs"), tmp_path / "backup", world.now)
    store.forget(world.tenant, "alice", "operator", world.later())
    world.later(8 * 86_400)
    assert store.roll_when_due(world.now)
    store = restored(world, tmp_path / "backup")
    assert len(store.events(stays)) == 4
    assert store.events(gone) == []
    shut(world)
    shutil.rmtree(world.home / "export")  # without the exports, the backup is as useless as every older copy
    shutil.rmtree(world.data)
    blobs, _ = places(world)
    backup.restore(tmp_path / "backup", world.database, blobs, None, world.now)
    with pytest.raises(WrongKeyRing):
        opened(world)
    shutil.rmtree(world.data)
    world.ring = KeyRing.open(world.home / "keys")
    world.store = world.open()


def drill(world, tmp_path, count, changed, full):
    """Back up, erase some, publish some, lose everything, restore: B6."""
    store = opened(world)
    names = [f"person-{number:05d}" for number in range(count)]
    for start in range(0, count, 1_000):
        world.record(
            *(each for name in names[start : start + 1_000] for each in (world.consent(name), world.event(name)))
        )
    ids = {name: store.user(world.tenant, name).id for name in names}
    dice = random.Random(SEED)
    served = dice.sample(names, 2 * changed)
    for name in served[:changed]:
        world.finished(ids[name])
    begun = perf_counter()
    backup.back_up(world.database, FileBlobs(world.data / "blobs"), tmp_path / "backup", world.later())
    made_s, made_at = perf_counter() - begun, world.now
    gone = dice.sample(names, changed)
    for name in gone:
        store.forget(world.tenant, name, "operator", world.later())
    for name in served[changed:]:
        if name not in gone:
            world.finished(ids[name])
    lost_at = world.later(60)
    begun = perf_counter()
    store = restored(world, tmp_path / "backup")
    restored_s = perf_counter() - begun
    readable = sum(bool(store.events(ids[name]) or store.versions(ids[name])) for name in gone)
    revived = sum(not isinstance(each, UserForgotten) for each in world.record(*(world.event(name) for name in gone)))
    stay = [name for name in names if name not in gone]
    unreadable = sum(not store.events(ids[name]) for name in stay)
    current = [ids[name] for name in served[:changed] if name not in gone]
    dead = sum(store.current_adapter(user) is None for user in current)
    recovery_point_s = (lost_at - made_at) / timedelta(seconds=1)
    record(
        "B6", SEED, full=full, users=count, erased=len(gone), erased_readable=readable, revived=revived,
        current_unreadable=dead, unreadable=unreadable, rpo_s=recovery_point_s, rto_s=round(restored_s, 2),
        backup_s=round(made_s, 2),
    )  # fmt: skip
    assert (readable, revived, unreadable, dead) == (0, 0, 0, 0)
    assert store.verify_audit().ok
    return made_s + restored_s


def test_the_restore_drill(world, tmp_path):
    assert drill(world, tmp_path, 60, 20, full=False) < 30


@pytest.mark.long
def test_the_restore_drill_with_ten_thousand_users(world, tmp_path):
    assert drill(world, tmp_path, 10_000, 50, full=True) <= 120


def test_a_backup_does_not_stop_writers(world, tmp_path):
    """A reader that never checkpoints: the WAL and the lock of the store stay as they are."""
    store = opened(world)
    world.user("alice")
    for number in range(3):
        backup.back_up(world.database, FileBlobs(world.data / "blobs"), tmp_path / f"backup-{number}", world.now)
        world.record(world.event("alice"))
    assert store.scrub(world.now)
    with sqlite3.connect(tmp_path / "backup-2" / "plora.db") as copy:
        assert copy.execute("SELECT count(*) FROM events").fetchone() == (6,)
