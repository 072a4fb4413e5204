# ruff: noqa: S608 -- the test tampers with its own database

import pytest

from storage import FinishedRun, RunState, StaleEpoch, UserState, VersionState


def test_a_user_has_at_most_one_open_run(world):
    user = world.user("alice")
    run = world.store.open_run(user, "basis-1", "3 fresh examples", world.now)
    assert (run.state, run.user, run.basis, run.epoch) == (RunState.QUEUED, user, "basis-1", 0)
    assert world.store.open_run(user, "basis-1", "again", world.now) is None
    assert world.store.open_run("0" * 32, "basis-1", "nobody", world.now) is None
    assert world.store.activity(user, world.now).has_open_run


def test_a_claim_is_held_by_one_owner_until_its_lease_ends(world):
    user = world.user("alice")
    world.store.open_run(user, "basis-1", "x", world.now)
    [run] = world.store.claim_runs("one", 10, 30, world.now)
    assert (run.state, run.owner, run.epoch, run.attempts) == (RunState.RUNNING, "one", 1, 1)
    assert (run.lease_until - world.now).total_seconds() == 30
    assert world.store.claim_runs("two", 10, 30, world.later(29)) == []
    [taken] = world.store.claim_runs("two", 10, 30, world.later(1))
    assert (taken.id, taken.owner, taken.epoch, taken.attempts, taken.crashes) == (run.id, "two", 2, 2, 1)


def test_runs_are_claimed_oldest_first_up_to_the_limit(world):
    opened = []
    for name in ("a", "b", "c"):
        opened.append(world.store.open_run(world.user(name), "basis-1", "x", world.later()).id)
    first = world.store.claim_runs("one", 2, 30, world.now)
    rest = world.store.claim_runs("two", 2, 30, world.now)
    assert [run.id for run in (*first, *rest)] == opened


def test_extending_keeps_what_is_held_and_tells_what_is_lost(world):
    held, lost = world.claimed(world.user("alice"), 30), world.claimed(world.user("bob"), 5)
    world.store.claim_runs("two", 10, 30, world.later(6))
    pairs = [(held.id, held.epoch), (lost.id, lost.epoch), (999, 1)]
    assert world.store.extend_leases(pairs, 60, world.now) == {held.id}
    assert (world.store.run(held.id).lease_until - world.now).total_seconds() == 60
    assert world.store.extend_leases([], 60, world.now) == set()


def test_a_retried_run_waits_for_its_time(world):
    run = world.claimed(world.user("alice"))
    world.store.retry_run(run.id, run.epoch, world.now.replace(minute=10), "trainer_lost", world.now)
    waiting = world.store.run(run.id)
    assert (waiting.state, waiting.error_code, waiting.lease_until) == (RunState.QUEUED, "trainer_lost", None)
    assert world.store.claim_runs("one", 10, 30, world.now) == []
    [again] = world.store.claim_runs("one", 10, 30, world.later(600))
    assert (again.id, again.epoch, again.crashes) == (run.id, 2, 0)


def test_a_failed_run_frees_its_user(world):
    user = world.user("alice")
    run = world.claimed(user)
    world.store.fail_run(run.id, run.epoch, "no_labels", "no example has a known label", world.later())
    failed = world.store.run(run.id)
    assert (failed.state, failed.error_code, failed.finished_at) == (RunState.FAILED, "no_labels", world.now)
    activity = world.store.activity(user, world.now)
    assert (activity.has_open_run, activity.last_run_at, activity.runs_today) == (False, world.now, 1)
    assert world.store.open_run(user, "basis-1", "again", world.now) is not None


def test_runs_today_begin_at_midnight_utc(world):
    user = world.user("alice")
    world.finished(user)
    assert world.store.activity(user, world.now).runs_today == 1
    assert world.store.activity(user, world.later(12 * 3600)).runs_today == 0


def test_a_cancelled_run_fences_whoever_holds_it(world, outcome):
    run = world.claimed(world.user("alice"))
    cancelled = world.store.cancel_run(run.id, "operator", world.now)
    assert (cancelled.state, cancelled.epoch) == (RunState.CANCELLED, run.epoch + 1)
    assert world.store.cancel_run(run.id, "operator", world.now) is None
    with pytest.raises(StaleEpoch):
        world.store.finish_run(run.id, run.epoch, outcome(), world.now)


WRITES = {
    "finish": lambda store, run, epoch, now, made: store.finish_run(run, epoch, made, now),
    "fail": lambda store, run, epoch, now, _: store.fail_run(run, epoch, "x", "y", now),
    "retry": lambda store, run, epoch, now, _: store.retry_run(run, epoch, now, "x", now),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("lost_by", ["expiry", "finish", "retry", "forget", "never held"])
def test_a_stale_epoch_writes_nothing(world, outcome, write, lost_by):
    user = world.user("alice")
    run = world.claimed(user, 10)
    epoch = run.epoch
    if lost_by == "expiry":
        world.store.claim_runs("two", 10, 30, world.later(11))
    elif lost_by == "finish":
        world.store.finish_run(run.id, run.epoch, outcome(promoted=False), world.now)
    elif lost_by == "retry":
        world.store.retry_run(run.id, run.epoch, world.now, "x", world.now)
    elif lost_by == "forget":
        world.store.forget(world.tenant, "alice", "operator", world.now)
    else:
        epoch += 1
    before = dump(world)
    with pytest.raises(StaleEpoch):
        write(world.store, run.id, epoch, world.now, outcome())
    assert dump(world) == before


def test_a_lease_that_ran_out_unnoticed_still_counts(world, outcome):
    run = world.claimed(world.user("alice"), 10)
    world.later(1000)
    made = world.store.finish_run(run.id, run.epoch, outcome(), world.now)
    assert made.state is VersionState.CURRENT


def test_runs_are_listed_newest_first_by_tenant_and_state(world):
    first, second = world.claimed(world.user("alice")), world.claimed(world.user("bob"))
    world.store.fail_run(first.id, first.epoch, "x", "y", world.now)
    assert [run.id for run in world.store.runs()] == [second.id, first.id]
    assert [run.id for run in world.store.runs(world.tenant, RunState.FAILED)] == [first.id]
    assert world.store.runs("0" * 32) == []
    assert world.store.run(999) is None


def test_finishing_moves_the_watermark_and_what_came_later_stays_fresh(world):
    user = world.user("alice", examples=3)
    run = world.claimed(user)
    seen = world.last_seq(user)
    world.record(world.event("alice", "late", time=world.later(5)))
    made = FinishedRun(b"p", False, "too_little_evidence", "r", "{}", "base-1", "basis-1", seen)
    world.store.finish_run(run.id, run.epoch, made, world.now)
    activity = world.store.activity(user, world.now)
    assert (activity.fresh, activity.total) == (1, 4)
    assert world.store.health(world.now).oldest_pending_event_at == world.now


def test_a_watermark_never_goes_back(world, outcome):
    user = world.user("alice", examples=3)
    world.finished(user)
    run = world.claimed(user)
    world.store.finish_run(run.id, run.epoch, outcome(watermark_seq=1), world.now)
    assert world.store.activity(user, world.now).fresh == 0


def test_health_counts_what_is_there(world):
    world.finished(world.user("alice"))
    world.claimed(world.user("bob"))
    world.store.open_run(world.user("carol"), "basis-1", "x", world.now)
    world.user("dave")
    world.store.forget(world.tenant, "dave", "operator", world.now)
    health = world.store.health(world.now)
    assert (health.queue_depth, health.running, health.current_adapters, health.users) == (1, 1, 1, 3)
    assert health.schema_revision == "0005"
    assert health.database_bytes > 4096
    assert health.oldest_pending_event_at == world.now


def test_a_forgotten_user_gets_no_run(world):
    user = world.user("alice")
    world.store.forget(world.tenant, "alice", "operator", world.now)
    assert world.store.open_run(user, "basis-1", "x", world.now) is None
    assert world.store.user_by_id(user).state is UserState.FORGOTTEN


def dump(world):
    tables = ("users", "runs", "versions", "events", "audit", "audit_head", "data_keys")
    return {table: world.sql(f"SELECT * FROM {table} ORDER BY 1") for table in tables}


def test_a_decision_on_what_was_true_before_opens_nothing(world, outcome):
    user = world.user("ann")
    seen = {user: world.store.activity(user, world.now).last_run_at}
    world.later()
    world.finished(user)
    world.record(world.event("ann"))
    assert world.store.open_runs([(user, "basis-1", "due")], world.later(), seen=seen) == {}
    now_seen = {user: world.store.activity(user, world.now).last_run_at}
    world.record(world.consent("ann", granted=False))
    assert world.store.open_runs([(user, "basis-1", "due")], world.later(), seen=now_seen) == {}
    world.later()
    world.record(world.consent("ann"))
    assert set(world.store.open_runs([(user, "basis-1", "due")], world.later(), seen=now_seen)) == {user}
