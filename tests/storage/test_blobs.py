"""Blobs as files, and the scrub that replaces what is lost. Rows 8, 10 and 12 of the matrix."""

import hashlib
import os
import random
import resource
import signal
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from storage import BadRecord, BasisState, BlobTaken, DiskFull, RunState, Unreadable, VersionState
from storage.blobplaces import open_blobs
from storage.fileblobs import FileBlobs
from tests.faults.figures import record

SEED = 2_026_0302
WEEK = timedelta(days=7, seconds=1)


@pytest.fixture
def blobs(tmp_path):
    return FileBlobs(tmp_path / "blobs")


def test_a_blob_is_kept_under_the_hash_of_its_bytes_for_us_alone(blobs):
    name = blobs.keep(b"sealed")
    assert name == hashlib.sha256(b"sealed").hexdigest() == blobs.keep(b"sealed")
    [path] = blobs.directory.iterdir()
    assert path.name == f"{name}.blob"
    assert (path.stat().st_mode & 0o777, blobs.directory.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (blobs.read(name), blobs.list()) == (b"sealed", [name])
    blobs.delete(name)
    blobs.delete(name)
    assert blobs.list() == []


def test_a_damaged_blob_is_healed_by_keeping_it_again(blobs):
    name = blobs.keep(b"sealed")
    (blobs.directory / f"{name}.blob").write_bytes(b"damaged")
    with pytest.raises(Unreadable):
        blobs.read(name)
    assert blobs.read(blobs.keep(b"sealed")) == b"sealed"


def test_exports_are_never_replaced_and_are_no_blobs(blobs):
    blobs.keep(b"sealed")
    blobs.put("audit-2.json", b"two")
    blobs.put("audit-1.json", b"one")
    blobs.put("audit-1.json", b"one")
    with pytest.raises(BlobTaken):
        blobs.put("audit-1.json", b"1st")
    assert blobs.names() == ["audit-1.json", "audit-2.json"]
    assert blobs.names("audit-2") == ["audit-2.json"]
    assert blobs.get("audit-1.json") == b"one"
    assert len(blobs.list()) == 1
    assert blobs.sweep(blobs.list(), set(), datetime.now(UTC) + timedelta(days=1)) == 1  # noqa: TID251
    assert len(blobs.names()) == 2
    with pytest.raises(Unreadable):
        blobs.get("audit-3.json")


@pytest.mark.parametrize("name", ["", "../up", "/root", "a/b", ".hidden", "a\0b", "x.blob", "x.tmp", "a" * 201, "ü"])
def test_an_export_is_not_named_by_a_path(blobs, name):
    with pytest.raises(BadRecord):
        blobs.put(name, b"")
    with pytest.raises(BadRecord):
        blobs.get(name)


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "https://host/bucket", "file:///tmp"])
def test_a_place_is_a_bucket_or_a_directory(url):
    with pytest.raises(BadRecord):
        open_blobs(url)


def test_a_directory_is_opened_by_its_path(tmp_path):
    place = open_blobs(str(tmp_path / "there"))
    assert place.place == str(tmp_path / "there")
    assert place.read(place.keep(b"sealed")) == b"sealed"


def test_a_full_disk_leaves_nothing_and_reading_goes_on(blobs):
    kept = blobs.keep(b"sealed")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        for act in (blobs.keep, lambda content: blobs.put("export", content)):
            with pytest.raises(DiskFull):
                act(bytes(1 << 20))
        assert blobs.read(kept) == b"sealed"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in blobs.directory.iterdir()] == [f"{kept}.blob"]
    assert blobs.read(blobs.keep(bytes(1 << 20))) == bytes(1 << 20)


def test_no_live_blob_is_swept_while_others_are_published(world):
    _race(world, 125)


@pytest.mark.long
def test_no_live_blob_is_ever_swept(world):
    _race(world, 5_000)  # on two databases: 10,000 rounds


def _race(world, rounds):
    """Publish as fast as can be, plant old orphans, and sweep all the time with a short grace."""
    draw, grace, blobs = random.Random(SEED), timedelta(seconds=20), world.data / "blobs"
    now = lambda: datetime.now(UTC)  # noqa: E731, TID251
    done, swept, problems = threading.Event(), [], []

    def sweep() -> None:
        while not done.wait(0.02):
            try:
                swept.append(world.store.sweep_blobs(now(), grace))
            except Exception as problem:  # noqa: BLE001
                problems.append(problem)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    planted = 0
    try:
        for at in range(rounds):
            if draw.random() < 0.5:
                planted += 1
                orphan = blobs / f"{draw.randbytes(32).hex()}.{draw.choice(['blob', 'abc.tmp'])}"
                orphan.write_bytes(b"orphan")
                os.utime(orphan, (time.time() - 3600,) * 2)  # noqa: TID251
            world.store.open_basis(world.tenant, "reviews", "", now())
            basis = world.store.claim_basis("daemon-1", 60, now())
            world.store.finish_basis(basis.id, basis.epoch, f"f-{at}", "base", b"content %d" % at, "{}", now())
    finally:
        done.set()
        sweeper.join()
    swept.append(world.store.sweep_blobs(now(), grace))
    assert problems == []
    assert sum(swept) == planted
    for at in range(rounds):
        assert world.store.basis_content(f"f-{at}", world.tenant) == b"content %d" % at
    assert len(list(blobs.iterdir())) == rounds
    facts = {"rounds": rounds, "sweeps": len(swept), "orphans": planted, "swept": sum(swept), "lost": 0}
    facts["place"] = "sqlite" if world.url is None else "postgres"
    record(f"row 12 {facts['place']}", SEED, **facts, full=rounds >= 5_000)


def basis(world, fingerprint):
    world.store.open_basis(world.tenant, "reviews", "low,high", world.now)
    claimed = world.store.claim_basis("daemon-1", 60, world.now)
    content = fingerprint.encode() * 1000
    return world.store.finish_basis(claimed.id, claimed.epoch, fingerprint, "base-1", content, "{}", world.now)


def harm(world, how, before):
    """Damage the one blob that is not in `before`."""
    [path] = set((world.data / "blobs").iterdir()) - before
    content = path.read_bytes()
    if how == "delete":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if how == "cut" else content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("how", ["flip", "cut", "delete"])
def test_a_lost_basis_gives_way_to_the_one_before_and_another_is_queued(world, how):
    first = basis(world, "f-1")
    before = set((world.data / "blobs").iterdir())
    second = basis(world, "f-2")
    harm(world, how, before)
    assert world.store.scrub_blobs(world.now).bases == 0  # both were looked at when they were made
    found = world.store.scrub_blobs(world.now + WEEK)
    assert (found.bases, found.lost_bases, found.untold) == (2, (second.id,), 0)
    assert world.store.current_basis(world.tenant).id == first.id
    lost = world.store.basis(second.id)
    assert (lost.state, lost.error_code) == (BasisState.FAILED, "blob_lost")
    queued = world.store.bases(world.tenant)[0]
    assert (queued.state, queued.name, queued.labels_hint) == (BasisState.QUEUED, "reviews", "low,high")
    assert world.store.verify_audit().ok
    assert world.store.scrub_blobs(world.now + WEEK).bases == 0


def test_what_is_read_and_lost_is_mended_at_once_and_once(world):
    basis(world, "f-1")
    assert not world.store.mend_basis("f-1", world.tenant, world.now)
    harm(world, "flip", set())
    assert world.store.mend_basis("f-1", world.tenant, world.now)
    assert not world.store.mend_basis("f-1", world.tenant, world.now)
    assert [each.state for each in world.store.bases(world.tenant)] == [BasisState.QUEUED, BasisState.FAILED]


def test_an_old_basis_is_lost_without_another_being_queued(world):
    basis(world, "f-1")
    harm(world, "cut", set())
    second = basis(world, "f-2")
    assert len(world.store.scrub_blobs(world.now + WEEK).lost_bases) == 1
    assert world.store.current_basis(world.tenant) == second
    assert [each.state for each in world.store.bases(world.tenant)] == [BasisState.READY, BasisState.FAILED]


def flip_adapters(world, user, *versions, column="adapter_sealed"):
    chosen = ",".join(map(str, versions))
    world.sql(
        f"UPDATE versions SET {column} = CAST(substr({column}, 1, 400) || x'00' || substr({column}, 402) AS BLOB) "  # noqa: S608
        f"WHERE \"user\" = '{user}' AND version IN ({chosen})"
    )


def test_a_lost_adapter_gives_way_to_the_newest_that_opens(world):
    user = world.user("alice")
    for at in range(3):
        world.record(world.event("alice", f"more {at}"))
        world.finished(user, bytes([at]) * 512)
    assert world.store.activity(user, world.now).fresh == 0
    flip_adapters(world, user, 2, 3)
    found = world.store.scrub_blobs(world.now, share=1)
    assert (found.adapters, found.lost_adapters) == (1, ((user, 3),))
    assert world.store.current_adapter(user).version.version == 1
    assert world.store.activity(user, world.now).fresh == 2
    assert world.store.due_users(world.now, 10) == [user]
    assert world.store.verify_audit().ok
    assert world.store.scrub_blobs(world.now, share=1).lost_adapters == ()


def test_where_no_version_opens_the_generic_model_serves(world, outcome):
    user = world.user("alice")
    run = world.claimed(user)
    made = outcome(watermark_seq=world.last_seq(user), statistics=b"s" * 900)
    world.store.finish_run(run.id, run.epoch, made, world.now)
    assert not world.store.mend_adapter(user, world.now)
    flip_adapters(world, user, 1, column="statistics_sealed")
    assert world.store.mend_adapter(user, world.now)
    assert world.store.current_version(user) is None
    assert [each.state for each in world.store.versions(user)] == [VersionState.RETIRED]
    assert world.store.activity(user, world.now).fresh == 3
    assert world.store.runs(state=RunState.QUEUED) == []


def test_a_key_that_does_not_open_is_no_reason_to_roll_back(world):
    user = world.user("alice")
    world.finished(user)
    world.sql("UPDATE data_keys SET wrapped = zeroblob(65) WHERE id > 1")
    assert world.store.scrub_blobs(world.now, share=1).adapters == 0
    assert not world.store.mend_adapter(user, world.now)
    assert world.store.current_version(user) is not None


def test_only_a_share_of_many_adapters_is_opened(world):
    for at in range(12):
        world.finished(world.user(f"user-{at}"))
    assert world.store.scrub_blobs(world.now, share=0.25).adapters == 3
    assert world.store.scrub_blobs(world.now).adapters == 1
    assert world.store.scrub_blobs(world.now, share=1).adapters == 12
