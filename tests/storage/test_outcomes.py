"""Outcomes: an answer counts once, for the version and the arm that gave it, and goes with its user."""

import pytest

from storage import Counted, NewOutcome, NewRollout, StorageError, Tally


def told(user: str, answer: str, value: float = 1.0, arm: str | None = "current", rollout: int | None = 1):
    return NewOutcome(answer, user, 3, value, rollout, arm)


def record(world, *outcomes) -> list[str]:
    return [each.value for each in world.store.record_outcomes(world.tenant, outcomes, world.now)]


def test_an_answer_counts_once(world):
    ann = world.user("ann")
    assert record(world, told(ann, "a"), told(ann, "b"), told(ann, "a", 0.0)) == ["stored", "stored", "duplicate"]
    assert record(world, told(ann, "b", 0.5), told(ann, "c")) == ["duplicate", "stored"]
    assert world.store.outcome_tallies(1) == [Tally("current", 1, 3, 1.0)]


def test_nothing_is_counted_of_the_forgotten_and_nothing_is_left_of_them(world):
    ann, bob = world.user("ann"), world.user("bob")
    record(world, told(ann, "a"), told(bob, "b", 0.0))
    world.store.forget(world.tenant, "ann", "op", world.later())
    assert record(world, told(ann, "c"), told("f" * 32, "d")) == ["forgotten", "forgotten"]
    assert world.store.outcome_tallies(1) == [Tally("current", 1, 1, 0.0)]
    assert world.sql("SELECT count(*) FROM outcomes") == [(1,)]


def test_another_tenants_user_is_nobody(world):
    ann = world.user("ann")
    other = world.store.ensure_tenant("other", world.now).id
    assert world.store.record_outcomes(other, [told(ann, "a")], world.now) == [Counted.FORGOTTEN]


def test_each_user_is_one_mean_of_their_first_outcomes(world):
    ann, bob, eve = (world.user(name) for name in ("ann", "bob", "eve"))
    record(world, told(ann, "1", 1.0), told(bob, "2", 0.0, "previous"), told(bob, "3", 0.5, "previous"))
    record(world, *(told(ann, f"loud-{number}", 0.0) for number in range(20)), told(eve, "4"))
    record(world, told(eve, "x", 0.0, arm=None), told(eve, "y", 0.0, rollout=2))
    assert world.store.outcome_means(1, 2) == [("previous", 0.25), ("current", 0.5)]
    assert world.store.outcome_means(1, 1) == [("current", 1.0), ("previous", 0.0), ("current", 1.0)]
    assert world.store.outcome_means(1, 30) == []
    assert world.store.outcome_means(7, 1) == []


def test_old_outcomes_go_but_not_those_of_an_open_rollout(world):
    ann = world.user("ann")
    opened = world.store.start_rollout(world.tenant, NewRollout("a", "generic", 0.5, "{}"), "op", world.now)
    record(world, told(ann, "1", rollout=opened.id), told(ann, "2", rollout=None, arm=None))
    assert world.store.prune_history(world.later(), world.now) == 1
    world.store.end_rollout(opened.id, "promoted", ("asked", "enough"), "op", world.now)
    assert world.store.prune_history(world.now, world.now) == 1


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_what_is_no_value_is_refused(value):
    with pytest.raises(StorageError, match="from 0 to 1"):
        NewOutcome("a", "b", 1, value)
