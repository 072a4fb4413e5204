"""A6: whoever comes back after another took their claim writes nothing, a thousand times of a thousand."""

import random
import secrets
from datetime import UTC, datetime, timedelta

from storage import EventKind, KeyRing, NewEvent, RunState, StaleEpoch, Store
from tests.faults.figures import record

USERS, ROUNDS, ALONE, LEASE_S = 100, 10, 30, 30.0


def test_a_thousand_stale_publishes_are_refused(world, outcome, request):
    seed = secrets.randbits(32)
    draw = random.Random(seed)
    events = [
        NewEvent("/host", f"event-{user}", f"user-{user}", EventKind.EXAMPLE, b"a text", world.now)
        for user in range(USERS)
    ]
    recorded = world.store.record_events(world.tenant, events, world.now, default_consent=True)
    whom = [each.user for each in recorded]
    world.store.open_runs([(user, "basis-1", "due") for user in whom], world.now)
    refused = 0
    mine = world.store.claim_runs("daemon-0", USERS, LEASE_S, world.now)
    for turn in range(ROUNDS):
        world.later(LEASE_S + 0.001)
        taken = world.store.claim_runs(f"daemon-{turn + 1}", USERS, LEASE_S, world.now)
        assert len(taken) == USERS
        draw.shuffle(mine)
        claims = [(run.id, run.epoch, outcome()) for run in mine[ALONE:]]
        refused += sum(isinstance(each, StaleEpoch) for each in world.store.finish_runs(claims, world.now))
        for run in mine[:ALONE]:
            refused += is_refused(world, run, outcome(), draw)
        assert world.store.extend_leases([(run.id, run.epoch) for run in mine], LEASE_S, world.now) == set()
        assert world.store.return_runs([(run.id, run.epoch) for run in mine], "late", world.now) == 0
        mine = taken
    assert not any(world.store.versions_of(whom).values())
    finished = world.store.finish_runs([(run.id, run.epoch, outcome()) for run in mine], world.now)
    assert {each.version for each in finished} == {1}
    runs = world.store.runs(limit=2 * USERS)
    assert {(run.state, run.epoch, run.crashes) for run in runs} == {(RunState.SUCCEEDED, ROUNDS + 1, ROUNDS)}
    record(f"A6.{request.node.callspec.params['world']}", seed, stale=USERS * ROUNDS, refused=refused)
    assert refused == USERS * ROUNDS


def is_refused(world, run, made, draw: random.Random) -> bool:
    """Whether this write of a claim that was lost leaves nothing."""
    writes = (
        lambda: world.store.finish_run(run.id, run.epoch, made, world.now),
        lambda: world.store.finish_run(run.id, run.epoch, made, world.now),
        lambda: world.store.retry_run(run.id, run.epoch, world.now, "late", world.now),
        lambda: world.store.fail_run(run.id, run.epoch, "late", "late", world.now),
    )
    try:
        draw.choice(writes)()
    except StaleEpoch:
        return True
    return False


def test_daemons_whose_clocks_are_hours_off_share_leases_by_the_clock_of_the_database(postgres, tmp_path):
    """One daemon is an hour behind, the other believes that every lease ran out an hour ago."""
    ring, right = KeyRing.create(tmp_path / "keys"), datetime.now(UTC)  # noqa: TID251
    early, late = right - timedelta(hours=1), right + timedelta(hours=1)
    with Store.open(postgres, keyring=ring, blobs=tmp_path / "blobs", now=right) as store:
        tenant = store.ensure_tenant("acme", right).id
        event = NewEvent("/host", "1", "alice", EventKind.EXAMPLE, b"a text", right)
        [alice] = store.record_events(tenant, [event], late, default_consent=True)
        store.open_run(alice.user, "basis-1", "due", late)
        [run] = store.claim_runs("early", 1, LEASE_S, early)
        assert abs(run.lease_until - right) < timedelta(seconds=LEASE_S + 60)
        assert store.claim_runs("late", 1, LEASE_S, late) == []
        assert store.extend_leases([(run.id, run.epoch)], LEASE_S, early) == {run.id}
        assert store.claim_runs("late", 1, LEASE_S, late) == []
        store.retry_run(run.id, run.epoch, late + timedelta(seconds=10), "trainer_lost", late)
        assert abs(store.run(run.id).run_at - right) < timedelta(seconds=70)
        assert store.claim_runs("late", 1, LEASE_S, late) == []
