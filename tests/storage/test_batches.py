# ruff: noqa: S608 -- the test tampers with its own database
"""Many users in one transaction: each as if alone, and nobody pays for another."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.exc import DBAPIError

from storage import (
    AdapterVersion,
    Material,
    Outlived,
    RunState,
    StaleEpoch,
    UnknownUser,
    Unreadable,
    VersionState,
)


def crowd(world, count: int) -> list[str]:
    return [world.user(f"user-{number}") for number in range(count)]


def claimed(world, users: list[str]) -> dict[str, tuple[int, int]]:
    """A claimed run of each, by user."""
    wanted = [(user, "basis-1", "3 fresh examples") for user in users]
    assert set(world.store.open_runs(wanted, world.now)) == set(users)
    return {run.user: (run.id, run.epoch) for run in world.store.claim_runs("daemon-1", 1000, 30, world.now)}


def results(world, outcome, claims: dict[str, tuple[int, int]]) -> list:
    """An outcome of every run, every third one rejected."""
    return [
        (*claim, replace(outcome(promoted=at % 3 != 2, watermark_seq=world.last_seq(user)), adapter=user.encode()))
        for at, (user, claim) in enumerate(claims.items())
    ]


def told(world, users: list[str]) -> list[tuple]:
    """All that can be seen of each user."""
    return [
        (
            [(version.state, version.version, version.code) for version in world.store.versions(user)],
            (adapter := world.store.current_adapter(user)) and adapter.content == user.encode(),
            replace(world.store.activity(user, world.now), tenant=""),
        )
        for user in users
    ]


def test_a_batch_leaves_what_finishing_one_by_one_leaves(new_world, outcome):
    together, apart = new_world(), new_world()
    seen = []
    for world, at_once in ((together, True), (apart, False)):
        users = crowd(world, 7)
        for _ in range(3):
            batch = results(world, outcome, claimed(world, users))
            if at_once:
                world.store.finish_runs(batch, world.now)
            else:
                for run, epoch, made in batch:
                    world.store.finish_run(run, epoch, made, world.now)
            world.later(60)
        seen.append((told(world, users), world.store.verify_audit()))
    assert seen[0] == seen[1]
    assert seen[0][1].ok


def test_one_stale_run_does_not_spoil_the_others(world, outcome):
    users = crowd(world, 5)
    claims = claimed(world, users)
    batch = results(world, outcome, claims)
    world.store.fail_run(*claims[users[1]], "x", "y", world.now)
    world.store.forget(world.tenant, "user-3", "operator", world.now)
    answers = world.store.finish_runs([*batch, batch[0], (9999, 1, batch[0][2])], world.now)
    kinds = [type(answer) for answer in answers]
    assert kinds == [AdapterVersion, StaleEpoch, AdapterVersion, StaleEpoch, AdapterVersion, StaleEpoch, StaleEpoch]
    assert [len(world.store.versions(user)) for user in users] == [1, 0, 1, 0, 1]
    assert world.store.run(claims[users[1]][0]).state is RunState.FAILED
    assert world.store.finish_runs([], world.now) == []
    entries = world.sql("SELECT object FROM audit WHERE action IN ('version.promote', 'version.reject') ORDER BY seq")
    assert [row[0] for row in entries] == [users[0], users[2], users[4]]
    assert world.store.verify_audit().ok


def test_an_older_epoch_of_a_run_that_was_claimed_again_writes_nothing(world, outcome):
    users = crowd(world, 3)
    old = claimed(world, users)
    batch = results(world, outcome, old)
    again = {run.user: (run.id, run.epoch) for run in world.store.claim_runs("two", 2, 30, world.later(31))}
    answers = world.store.finish_runs(batch, world.now)
    assert [isinstance(answer, StaleEpoch) for answer in answers] == [user in again for user in users]
    both = results(world, outcome, again)
    assert all(isinstance(each, AdapterVersion) for each in world.store.finish_runs(both, world.now))


def test_a_user_whose_key_does_not_open_keeps_their_claim_and_the_others_their_versions(world, outcome):
    users = crowd(world, 3)
    claims = claimed(world, users)
    batch = results(world, outcome, claims)
    world.sql(f"UPDATE data_keys SET wrapped = zeroblob(65) WHERE owner = '{users[1]}'")
    answers = world.store.finish_runs(batch, world.now)
    assert [type(answer) for answer in answers] == [AdapterVersion, Unreadable, AdapterVersion]
    assert world.store.run(claims[users[1]][0]).state is RunState.RUNNING
    found = world.store.materials(users)
    assert [type(found[user]) for user in users] == [Material, Unreadable, Material]


def test_a_batch_that_fails_on_the_way_leaves_nothing(world, outcome):
    users = crowd(world, 3)
    batch = results(world, outcome, claimed(world, users))
    broken = [*batch[:2], (*batch[2][:2], replace(batch[2][2], reason=None))]
    before = world.sql("SELECT * FROM users ORDER BY id"), world.sql("SELECT * FROM audit")
    with pytest.raises(DBAPIError):
        world.store.finish_runs(broken, world.now)
    assert (world.sql("SELECT * FROM users ORDER BY id"), world.sql("SELECT * FROM audit")) == before
    assert world.sql("SELECT count(*) FROM versions") == [(0,)]
    assert all(isinstance(each, AdapterVersion) for each in world.store.finish_runs(batch, world.now))


def test_everything_a_run_works_from_comes_in_one_look(world, outcome):
    users = [*crowd(world, 3), "0" * 32]
    world.finished(users[0], b"of the first")
    found = world.store.materials(users)
    for user in users[:3]:
        assert list(found[user].events) == world.store.events(user)
    assert found[users[0]].current == world.store.current_adapter(users[0])
    assert found[users[1]].current is None
    assert found[users[3]] == Material()
    assert world.store.materials([]) == {}


def test_an_altered_event_makes_its_user_unreadable_and_nobody_else(world):
    users = crowd(world, 3)
    seq = world.last_seq(users[1])
    world.sql(f"UPDATE events SET body_sealed = zeroblob(length(body_sealed)) WHERE seq = {seq}")
    found = world.store.materials(users)
    assert [type(found[user]) for user in users] == [Material, Unreadable, Material]


def test_more_leases_than_a_condition_may_name_are_extended(world):
    held = list(claimed(world, [world.user("alice", 1)]).values())
    many = held + [(number, number % 3) for number in range(10_000, 22_000)]
    assert world.store.extend_leases(many, 60, world.now) == {held[0][0]}


def test_runs_are_opened_together_one_for_each_user(world):
    users = crowd(world, 3)
    world.store.open_run(users[0], "basis-1", "x", world.now)
    world.store.forget(world.tenant, "user-2", "operator", world.now)
    opened = world.store.open_runs([(user, "basis-1", "x") for user in (*users, users[1], "0" * 32)], world.now)
    assert set(opened) == {users[1]}
    assert world.store.run(opened[users[1]].id) == opened[users[1]]
    assert world.store.activity(users[1], world.now).has_open_run
    assert world.store.activity(users[1], world.now).runs_today == 1
    assert world.store.activities(users, world.now).keys() == set(users)


def test_what_outlived_its_rule_is_deleted_for_many_and_what_is_current_by_now_stays(world):
    users = crowd(world, 3)
    for user in users:
        for _ in range(3):
            world.finished(user)
    seqs = [event.seq for event in world.store.events(users[0])]
    world.store.rollback(users[1], 1, "operator", world.now)  # meanwhile
    world.store.forget(world.tenant, "user-2", "operator", world.now)
    outlived = [Outlived(users[0], (1, 2), tuple(seqs[:2])), Outlived(users[1], (1, 2)), Outlived(users[2], (1,))]
    assert world.store.delete_outlived(outlived, world.later()) == 5
    assert [each.version for each in world.store.versions(users[0])] == [3]
    assert [event.seq for event in world.store.events(users[0])] == seqs[2:]
    assert world.store.activity(users[0], world.now).total == 2
    states = [(each.version, each.state) for each in world.store.versions(users[1])]
    assert states == [(1, VersionState.CURRENT), (3, VersionState.RETIRED)]
    assert world.store.verify_audit().ok
    with pytest.raises(UnknownUser):
        world.store.delete_versions(users[2], [1], world.now)


def test_versions_are_listed_for_many(world):
    users = crowd(world, 2)
    world.finished(users[0])
    found = world.store.versions_of([*users, "0" * 32])
    assert found == {users[0]: world.store.versions(users[0]), users[1]: [], "0" * 32: []}


def test_users_are_postponed_together(world):
    users = crowd(world, 3)
    world.store.postpone_users({user: world.now + timedelta(seconds=60) for user in users[:2]}, world.now)
    assert world.store.due_users(world.now, 10) == [users[2]]
    world.store.postpone_users({}, world.now)
