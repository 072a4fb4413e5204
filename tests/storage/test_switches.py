"""Switches and replays: rows that every daemon on the database reads."""

import pytest

from storage import BadRecord, UnknownUser


def test_a_switch_is_off_until_it_is_turned_on_again(world):
    assert world.store.switches() == []
    assert world.store.turn_switch("training", "ops", world.now, off=True)
    assert not world.store.turn_switch("training", "another", world.now, off=True)
    [switch] = world.store.switches()
    assert (switch.name, switch.at, switch.actor) == ("training", world.now, "ops")
    assert world.store.turn_switch("training", "ops", world.now, off=False)
    assert not world.store.turn_switch("training", "ops", world.now, off=False)
    assert world.store.switches() == []
    assert world.store.verify_audit().ok


def test_a_switch_outlives_the_process(world):
    world.store.turn_switch("ingest", "ops", world.now, off=True)
    world.reopen()
    assert [each.name for each in world.store.switches()] == ["ingest"]


def test_there_are_no_other_switches(world):
    with pytest.raises(BadRecord, match="training, ingest"):
        world.store.turn_switch("lights", "ops", world.now, off=True)


def looked_at(world, user: str) -> str:
    """A user whose events a run has looked at and given up: none of them is fresh."""
    internal = world.user(user)
    world.record(*(world.event(user) for _ in range(3)))
    world.store.open_run(internal, "b" * 32, "a test", world.now)
    [run] = world.store.claim_runs("test", 1, 60, world.now)
    world.store.fail_run(run.id, run.epoch, "no_use", "a reason", world.now)
    assert world.store.activity(internal, world.now).fresh == 0
    return internal


def test_a_replayed_user_has_only_fresh_events(world):
    user = looked_at(world, "alice")
    total = world.store.activity(user, world.now).total
    assert world.store.replay_user(user, "ops", world.now).users == 1
    assert world.store.activity(user, world.now).fresh == total
    assert world.store.due_users(world.now, 10) == [user]
    with pytest.raises(UnknownUser):
        world.store.replay_user("0" * 32, "ops", world.now)


def test_what_came_since_a_time_is_replayed_page_by_page(world):
    people = sorted(looked_at(world, name) for name in ("alice", "bob", "carol"))
    since, world.now = world.now, world.later(60)
    first = world.store.replay_since(world.tenant, since, "ops", world.now, after="", limit=2)
    assert (first.users, first.after) == (2, people[1])
    last = world.store.replay_since(world.tenant, since, "ops", world.now, after=people[1], limit=2)
    assert (last.users, last.after) == (1, None)
    assert all(each.fresh == each.total for each in world.store.activities(people, world.now).values())
    none = world.store.replay_since(world.tenant, world.now, "ops", world.now, after="", limit=2)
    assert (none.users, none.after) == (0, None)
