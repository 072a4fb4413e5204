"""Erasure, stage by stage: receipts, exports, restored backups, crashes, and what old copies are worth afterwards."""

import os
import random
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from storage import AdapterVersion, ExportsForeign, KeyRing, StaleEpoch, Store, UnknownUser, UserForgotten, UserState
from storage.fileblobs import FileBlobs
from storage.receipts import genuine
from tests.faults.figures import record

ROOT = Path(__file__).resolve().parents[2]
SEED = 20_261_123
WEEK = timedelta(days=7)


def shut(world):
    """Close the world's store, once."""
    store, world.store = world.store, None
    if store is not None:
        store.close()


def opened(world, **more) -> Store:
    """The world's store, opened again with a place for exports."""
    shut(world)
    world.ring = KeyRing.open(world.home / "keys")
    world.store = world.open(exports=FileBlobs(world.home / "export"), **more)
    return world.store


def crowd(world, count, examples=2):
    """Users with texts; external id to internal id."""
    names = [f"person-{number:05d}-of-acme@example.com" for number in range(count)]
    for start in range(0, count, 500):
        part = names[start : start + 500]
        world.record(*(world.consent(name) for name in part))
        world.record(*(world.event(name, f"{name} has told this {n}") for name in part for n in range(examples)))
    return {name: world.store.user(world.tenant, name).id for name in names}


def stage(receipt, name):
    return next(each.at for each in receipt.stages if each.name == name)


def test_a_receipt_is_signed_and_every_change_of_it_is_found(world):
    store = opened(world)
    world.user("alice")
    receipt = store.forget(world.tenant, "alice", "operator", world.now)
    public = world.ring.signer().public
    assert genuine(public, receipt)
    assert receipt.stages[-1].due == world.now + WEEK
    for changed in (
        replace(receipt, user="0" * 32),
        replace(receipt, tenant="0" * 32),
        replace(receipt, stages=receipt.stages[:-1]),
        replace(receipt, stages=(replace(receipt.stages[0], at=world.later()), *receipt.stages[1:])),
        replace(receipt, stages=(*receipt.stages[:-1], replace(receipt.stages[-1], due=None))),
        replace(receipt, signature=bytes(64)),
    ):
        assert not genuine(public, changed)
    assert genuine(public, replace(receipt, events=7))  # what was counted is in the audit log


def test_only_the_forgotten_have_a_receipt(world):
    store = opened(world)
    user = world.user("alice")
    world.user("bob")
    store.forget(world.tenant, "alice", "operator", world.now)
    assert store.erasure(world.tenant, "alice").user == user
    assert store.erasure(world.tenant, "bob") is None
    assert store.erasure(world.tenant, "nobody") is None
    assert [each.user for each in store.erasures(world.tenant)] == [user]
    world.record(world.consent("alice", time=world.later()))
    assert store.erasure(world.tenant, "alice") is None
    assert [each.user for each in store.erasures(world.tenant)] == [user]  # it still is to be rolled


def test_the_epoch_is_rolled_when_an_erasure_is_a_week_old(world):
    store = opened(world)
    user = world.user("alice")
    stays = world.user("bob")
    world.later()
    store.forget(world.tenant, "alice", "operator", world.now)
    assert not store.roll_when_due(world.now + WEEK - timedelta(seconds=1))
    world.later(WEEK.total_seconds())
    assert store.roll_when_due(world.now)
    receipt = store.erasure(world.tenant, "alice")
    assert receipt.final
    assert stage(receipt, "epoch_rolled") == world.now
    assert genuine(world.ring.signer().public, receipt)
    assert not store.roll_when_due(world.later())
    assert store.user_by_id(user).state is UserState.FORGOTTEN
    assert len(store.events(stays)) == 4


def test_every_erasure_is_exported_before_forgetting_answers(world):
    store = opened(world)
    user = world.user("alice")
    store.forget(world.tenant, "alice", "operator", world.now)
    [name] = [path.name for path in (world.home / "export").iterdir()]
    assert name == f"erasure-{user}"
    content = (world.home / "export" / name).read_bytes()
    assert b"alice" not in content
    assert store.unexported() == 0


def test_an_erasure_while_the_exports_are_away_is_exported_later(world):
    store = opened(world)
    user = world.user("alice")
    shutil.rmtree(world.home / "export")
    assert store.forget(world.tenant, "alice", "operator", world.now).complete
    assert store.unexported() == 1
    assert not store.export_pending(world.now)
    (world.home / "export").mkdir()
    assert store.export_pending(world.now)
    assert store.unexported() == 0
    assert (world.home / "export" / f"erasure-{user}").exists()


def test_opening_erases_again_whom_an_older_copy_brings_back(world, tmp_path):
    assert world.database.exists()  # an SQLite file, that is: test_two_daemons.py has PostgreSQL's
    store = opened(world)
    alice, bob = world.user("alice"), world.user("bob")
    shut(world)
    shutil.copytree(world.data, tmp_path / "older")
    store = opened(world)
    world.later()
    carol = world.user("carol")  # not in the copy: late duplicates of hers must not bring her in
    store.forget(world.tenant, "alice", "operator", world.later())
    store.forget(world.tenant, "carol", "operator", world.later())
    told_at = world.now
    shut(world)
    shutil.rmtree(world.data)
    shutil.copytree(tmp_path / "older", world.data)
    world.later()
    store = opened(world)
    for name, user in (("alice", alice), ("carol", carol)):
        assert store.events(user) == []
        assert store.user(world.tenant, name).state is UserState.FORGOTTEN
        assert {type(each) for each in world.record(world.event(name), world.consent(name, time=None))} == {
            UserForgotten
        }
    assert stage(store.erasure(world.tenant, "carol"), "fenced") == told_at
    assert len(store.events(bob)) == 4
    assert store.replay_erasures(world.now) == 0
    assert store.scrub(world.now)
    assert world.store.erasure(world.tenant, "alice").complete
    again = world.record(world.consent("carol", time=world.later()))[0]
    assert again.user != carol
    assert opened(world).user(world.tenant, "carol").id == again.user  # a new consent outlives the next start


def test_exports_of_another_ring_are_refused(world, new_world):
    opened(world)
    other = new_world()
    opened(other)
    other.user("alice")
    other.store.forget(other.tenant, "alice", "operator", other.now)
    shutil.copytree(other.home / "export", world.home / "export", dirs_exist_ok=True)
    shut(world)
    with pytest.raises(ExportsForeign, match="has not signed"):
        opened(world)
    shutil.rmtree(world.home / "export")
    opened(world)


@pytest.mark.parametrize(
    "point",
    ["forget-before-commit", "forget-before-export", "forget-before-scrub", "erase-before-roll", "erase-after-roll"],
)
def test_killed_at_any_stage_an_erasure_is_whole_or_not_begun_and_goes_on(world, point):
    opened(world)
    user = world.user("alice")
    shut(world)
    script = [
        sys.executable,
        Path(__file__).with_name("erasing_process.py"),
        point,
        world.home,
        world.tenant,
        "alice",
        world.address,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(script, env=environment, cwd=ROOT, check=False, timeout=60, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    world.now += timedelta(days=200)
    store = opened(world)
    if point == "forget-before-commit":
        assert len(store.events(user)) == 4
        assert store.forget(world.tenant, "alice", "operator", world.now).complete
        world.later(8 * 86_400)
    assert store.events(user) == []
    assert store.export_pending(world.now)
    assert (world.home / "export" / f"erasure-{user}").exists()
    store.roll_when_due(world.now)
    receipt = store.erasure(world.tenant, "alice")
    assert (receipt.complete, receipt.final) == (True, True)
    assert store.verify_audit().ok


def test_no_publish_on_its_way_outruns_an_erasure(world, outcome):
    """B2: whatever comes first, a forgotten user has no version; every publish after the erasure is refused."""
    store = opened(world)
    names = list(crowd(world, 40 if world.url else 100))
    runs = {}
    for name in names:
        user = store.user(world.tenant, name).id
        store.open_run(user, "basis-1", "because", world.now)
    for run in store.claim_runs("daemon-1", 1_000, 60, world.now):
        runs[run.user] = run

    def publish(run) -> bool:
        try:
            return isinstance(store.finish_run(run.id, run.epoch, outcome(), world.now), AdapterVersion)
        except (StaleEpoch, UnknownUser):
            return False

    dice = random.Random(SEED)
    refused = published = 0
    with ThreadPoolExecutor(2) as pool:
        for name in names:
            user = store.user(world.tenant, name).id
            acts = [(publish, runs[user]), (store.forget, world.tenant, name, "operator", world.now)]
            dice.shuffle(acts)
            answers = [future.result() for future in [pool.submit(*act) for act in acts]]
            published += True in answers
            assert not publish(runs[user])
            refused += 1
            assert store.current_adapter(user) is None
            assert store.versions(user) == []
            assert store.events(user) == []
    record("B2", SEED, races=len(names), refused=refused, readable=0, published_before=published)


def test_late_duplicates_bring_nobody_back(world):
    """B5."""
    store = opened(world)
    names = [f"user-{number}" for number in range(20)]
    sent = [world.event(name, f"text {number}") for name in names for number in range(49)]
    consents = [world.consent(name) for name in names]
    world.record(*consents, *sent)
    before = {name: store.user(world.tenant, name).id for name in names}
    world.later()
    for name in names:
        store.forget(world.tenant, name, "operator", world.now)
    late = [*consents, *sent]
    random.Random(SEED).shuffle(late)
    world.later()
    assert len(late) == 1_000
    assert {type(each) for each in world.record(*late)} == {UserForgotten}
    kept = sum(len(store.events(user)) for user in before.values())
    back = world.record(*(world.consent(name, time=world.now) for name in names[:10]))
    assert not {each.user for each in back} & set(before.values())
    record("B5", SEED, late=len(late), rows=kept, came_back=len(back))
    assert kept == 0
