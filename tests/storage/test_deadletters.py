"""Runs that were given up: listed, replaced by another run of their user, and in nobody's way."""

import pytest

from storage import RunState, Spent


def killed(world, name: str, code: str = "RuntimeError") -> int:
    """A dead letter of a new user."""
    run = world.claimed(world.user(name))
    world.store.fail_run(run.id, run.epoch, code, "5 errors and 0 crashes", world.now)
    return run.id


def dead(world) -> list[int]:
    return [run.id for run in world.store.dead_letters(world.tenant)]


def test_a_dead_letter_is_listed_counted_and_audited_by_its_class(world):
    first, second = killed(world, "alice", "MemoryError"), killed(world, "bob")
    assert dead(world) == [first, second]
    assert [run.id for run in world.store.dead_letters(world.tenant, 1, after=first)] == [second]
    assert world.store.dead_letters("0" * 32) == []
    assert world.store.health(world.now).dead_letters == 2
    run = world.store.run(first)
    assert (run.state, run.error_code) == (RunState.FAILED, "MemoryError")
    [(outcome,)] = world.sql("SELECT outcome FROM audit WHERE action = 'run.fail' AND outcome LIKE '%MemoryError'")
    assert outcome == f"run {first} MemoryError"


def test_what_came_before_counts_as_looked_at_and_what_comes_after_is_recorded(world):
    killed(world, "alice")
    user = world.store.user(world.tenant, "alice").id
    activity = world.store.activity(user, world.now)
    assert (activity.dead, activity.fresh, activity.total) == (True, 0, 3)
    world.record(*(world.event("alice", f"later {number}") for number in range(4)))
    assert len([each for each in world.store.events(user) if each.content]) == 7
    assert world.store.activity(user, world.now).fresh == 4
    assert world.store.due_users(world.now, 10, 2, 5) == []
    assert world.store.due_users(world.now, 10, 2, 4) == [user]


def test_another_run_of_the_user_replaces_it_whoever_opened_it(world):
    number = killed(world, "alice")
    user = world.store.user(world.tenant, "alice").id
    opened = world.store.open_run(user, "basis-1", "32 fresh events", world.now)
    assert dead(world) == []
    assert not world.store.activity(user, world.now).dead
    assert world.sql(f"SELECT replaced_by FROM runs WHERE id = {number}") == [(opened.id,)]  # noqa: S608


def test_an_operator_has_one_or_all_tried_again(world):
    first, second, third = (killed(world, name) for name in ("alice", "bob", "carol"))
    retried = world.store.retry_dead(world.tenant, [second], 10, "operator", world.later())
    assert list(retried) == [second]
    assert dead(world) == [first, third]
    assert list(world.store.retry_dead(world.tenant, None, 1, "operator", world.now)) == [first]
    assert world.store.retry_dead(world.tenant, [first, 999], 10, "operator", world.now) == {}
    assert list(world.store.retry_dead(world.tenant, None, 10, "operator", world.now)) == [third]
    claimed = world.store.claim_runs("daemon-1", 10, 30, world.now)
    assert len(claimed) == 3
    assert {(run.attempts, run.crashes) for run in claimed} == {(1, 0)}
    assert world.store.verify_audit().ok


def test_nobody_is_tried_again_without_consent_nor_after_they_were_forgotten(world):
    killed(world, "alice")
    killed(world, "bob")
    world.record(world.consent("alice", granted=False))
    world.store.forget(world.tenant, "bob", "host", world.now)
    assert world.store.retry_dead(world.tenant, None, 10, "operator", world.now) == {}
    assert world.store.health(world.now).dead_letters == 1
    world.record(world.consent("alice", time=world.later()))
    assert len(world.store.retry_dead(world.tenant, None, 10, "operator", world.now)) == 1


@pytest.mark.parametrize(
    ("spent", "attempts", "crashes"), [(Spent.ATTEMPT, 2, 0), (Spent.CRASH, 2, 1), (Spent.NOTHING, 1, 0)]
)
def test_a_claim_that_is_given_back_says_what_it_has_cost(world, spent, attempts, crashes):
    run = world.claimed(world.user("alice"))
    world.store.retry_run(run.id, run.epoch, world.now, "code", world.now, spent=spent)
    [again] = world.store.claim_runs("daemon-2", 1, 30, world.now)
    assert (again.attempts, again.crashes, again.epoch) == (attempts, crashes, run.epoch + 1)


def test_claims_are_released_together_and_only_while_they_are_held(world):
    runs = [world.claimed(world.user(name)) for name in ("alice", "bob")]
    assert world.store.return_runs([(run.id, run.epoch) for run in runs] + [(runs[0].id, 9)], "stopped", world.now) == 2
    assert world.store.return_runs([(run.id, run.epoch) for run in runs], "stopped", world.now) == 0
    queued = world.store.runs(state=RunState.QUEUED)
    assert {(run.epoch, run.attempts, run.lease_until, run.owner) for run in queued} == {(1, 0, None, None)}
