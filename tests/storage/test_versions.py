# ruff: noqa: S608 -- the test tampers with its own database

import hashlib
from dataclasses import replace

import pytest

from storage import CurrentVersionKept, StaleEpoch, UnknownUser, UnknownVersion, Unreadable, VersionState


def states(world, user):
    return [version.state.value for version in world.store.versions(user)]


def test_a_promoted_adapter_is_served_and_replaces_the_one_before(world):
    user = world.user("alice")
    world.finished(user, b"first")
    made = world.finished(user, b"second")
    served = world.store.current_adapter(user)
    assert (served.content, served.version) == (b"second", made)
    assert world.store.current_version(user) == made
    assert states(world, user) == ["retired", "current"]


def test_a_rejected_adapter_changes_nothing_but_is_kept(world):
    user = world.user("alice")
    world.finished(user, b"first")
    rejected = world.finished(user, b"worse", promoted=False)
    assert world.store.current_adapter(user).content == b"first"
    assert world.store.adapter(user, rejected.version).content == b"worse"
    assert states(world, user) == ["current", "rejected"]


def test_a_user_without_versions_is_served_the_generic_model(world):
    user = world.user("alice")
    assert world.store.current_adapter(user) is None
    assert world.store.current_version(user) is None
    assert world.store.adapter(user, 1) is None
    assert world.store.rollback(user, None, "operator", world.now) is None


def test_an_adapter_of_512_bytes_is_sealed_in_less_than_2_kib(world):
    made = world.finished(world.user("alice"), b"p" * 512)
    sealed = world.sql("SELECT adapter_sealed FROM versions")[0][0]
    assert made.size_bytes == len(sealed) <= 2048
    assert made.digest == hashlib.sha256(sealed).hexdigest()


def test_rolling_back_goes_to_the_version_before_and_then_to_the_generic_model(world):
    user = world.user("alice")
    for content in (b"1", b"2", b"3"):
        world.finished(user, content)
    assert world.store.rollback(user, None, "operator", world.now).version == 2
    assert world.store.current_adapter(user).content == b"2"
    assert world.store.rollback(user, None, "operator", world.now).version == 1
    assert world.store.rollback(user, None, "operator", world.now) is None
    assert states(world, user) == ["retired", "retired", "retired"]
    assert world.store.rollback(user, 3, "operator", world.now).version == 3
    assert world.store.rollback(user, 3, "operator", world.now).version == 3
    assert world.store.rollback(user, 0, "operator", world.now) is None


def test_a_version_that_never_won_can_not_be_rolled_back_to(world):
    user = world.user("alice")
    world.finished(user)
    rejected = world.finished(user, promoted=False)
    for version in (rejected.version, 99, -1):
        with pytest.raises(UnknownVersion):
            world.store.rollback(user, version, "operator", world.now)
    with pytest.raises(UnknownUser):
        world.store.rollback("0" * 32, None, "operator", world.now)
    assert states(world, user) == ["current", "rejected"]


def test_the_database_itself_refuses_a_second_current_version(world):
    user = world.user("alice")
    world.finished(user)
    world.finished(user, promoted=False)
    with pytest.raises(Exception, match=r"(?i)unique"):
        world.sql("UPDATE versions SET state = 'current'")
    world.store = world.open()
    assert states(world, user) == ["current", "rejected"]


def test_old_versions_are_deleted_and_their_numbers_never_used_again(world):
    user = world.user("alice")
    for _ in range(3):
        world.finished(user)
    rejected = world.finished(user, promoted=False)
    assert world.store.delete_versions(user, [1, rejected.version, 77], world.now) == 2
    assert [version.version for version in world.store.versions(user)] == [2, 3]
    assert [world.finished(user).version for _ in range(2)] == [5, 6]


def test_the_current_version_is_not_deleted(world):
    user = world.user("alice")
    world.finished(user)
    world.finished(user)
    with pytest.raises(CurrentVersionKept):
        world.store.delete_versions(user, [1, 2], world.now)
    assert states(world, user) == ["retired", "current"]


@pytest.mark.parametrize(
    "change",
    ["version = 2", "run = 99", "epoch = 7", "base = 'other'", "basis = 'other'", "watermark_seq = 0"],
)
def test_an_adapter_in_another_place_does_not_open(world, change):
    user = world.user("alice")
    world.finished(user)
    world.sql(f"UPDATE versions SET {change}")
    with pytest.raises(Unreadable):
        world.store.current_adapter(user)


def test_the_adapter_of_another_user_does_not_open(world):
    alice, bob = world.user("alice"), world.user("bob")
    world.finished(alice, b"of alice")
    world.finished(bob, b"of bob")
    world.sql(
        f"UPDATE versions SET adapter_sealed = (SELECT adapter_sealed FROM versions WHERE user = '{bob}') "
        f"WHERE user = '{alice}'"
    )
    with pytest.raises(Unreadable):
        world.store.current_adapter(alice)
    assert world.store.current_adapter(bob).content == b"of bob"


def test_everything_told_about_a_version_comes_back(world):
    user = world.user("alice")
    made = world.finished(user)
    [version] = world.store.versions(user)
    assert version == made
    assert (version.state, version.code, version.run, version.epoch) == (VersionState.CURRENT, "beats_generic", 1, 1)
    assert (version.base, version.basis, version.created_at) == ("base-1", "basis-1", world.now)


def retiring(world, user, outcome, version: int | None, promoted: bool = False):
    run = world.claimed(user)
    made = replace(outcome(b"new", promoted), retires=version)
    return world.store.finish_run(run.id, run.epoch, made, world.now)


def test_a_version_can_be_retired_by_a_run_that_makes_none_to_serve(world, outcome):
    user = world.user("alice")
    world.finished(user, b"first")
    retiring(world, user, outcome, 1)
    assert states(world, user) == ["retired", "rejected"]
    assert world.store.current_version(user) is None
    assert world.sql("SELECT outcome FROM audit ORDER BY seq DESC LIMIT 1")[0][0].endswith("; rolled back from 1")
    assert world.store.verify_audit().ok
    assert world.store.rollback(user, 1, "operator", world.now).version == 1


def test_a_run_that_retires_and_promotes_leaves_the_new_version(world, outcome):
    user = world.user("alice")
    world.finished(user, b"first")
    retiring(world, user, outcome, 1, promoted=True)
    assert states(world, user) == ["retired", "current"]


@pytest.mark.parametrize("version", [None, 1, 7])
def test_only_the_version_that_was_looked_at_is_retired(world, outcome, version):
    user = world.user("alice")
    world.finished(user, b"first")
    world.finished(user, b"second")
    retiring(world, user, outcome, version)
    assert states(world, user) == ["retired", "current", "rejected"]


def test_a_stale_run_retires_nothing(world, outcome):
    user = world.user("alice")
    world.finished(user, b"first")
    run = world.claimed(user)
    with pytest.raises(StaleEpoch):
        world.store.finish_run(run.id, run.epoch + 1, replace(outcome(), promoted=False, retires=1), world.now)
    assert states(world, user) == ["current"]


def test_the_newest_versions_are_those_made_last_over_all_users(world):
    alice, bob = world.user("alice"), world.user("bob")
    made = [world.finished(alice), world.finished(bob, promoted=False), world.finished(alice)]
    assert [each.run for each in world.store.newest_versions(2)] == [made[2].run, made[1].run]
    assert len(world.store.newest_versions(10)) == 3


def test_a_run_s_material_tells_of_the_newest_version_whatever_became_of_it(world):
    alice, bob = world.user("alice"), world.user("bob")
    world.finished(alice, b"first")
    rejected = world.finished(alice, b"worse", promoted=False)
    found = world.store.materials([alice, bob])
    assert found[alice].latest == rejected
    assert found[alice].current.version.version == 1
    assert found[bob].latest is None
