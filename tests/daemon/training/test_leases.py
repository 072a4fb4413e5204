"""A daemon believes in a lease only as long as it must be its own, whatever any clock of a wall says."""

from datetime import timedelta

import pytest

from daemon.leases import Leases
from daemon.scheduler import Scheduler
from policies import Policies
from storage import RunState, StaleEpoch, Store, StoreBusy

LEASE_S = 60.0


class Monotonic:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class Unreachable:
    """A real store behind a connection that can be cut."""

    def __init__(self, store: Store) -> None:
        self.store, self.cut = store, False

    def __getattr__(self, name: str) -> object:
        if self.cut:
            raise StoreBusy("the database")
        return getattr(self.store, name)


class Slow:
    """A real trainer that takes its time."""

    def __init__(self, real, take) -> None:
        self.real, self.take = real, take

    def fit(self, request, basis):
        answer = self.real.fit(request, basis)
        self.take()
        return answer

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


@pytest.fixture
def steady() -> Monotonic:
    return Monotonic()


@pytest.fixture
def store(training) -> Unreachable:
    return Unreachable(training.store)


@pytest.fixture
def leases(training, steady, store) -> Leases:
    return Leases(store, LEASE_S, training.clock.now, steady)


@pytest.fixture
def open_runs(training, users):
    training.scheduler.tick(training.clock.now())
    return users


def claimed(leases, training, limit: int = 1):
    runs, since = leases.claim_runs("one", limit, training.clock.now())
    return runs, since


@pytest.mark.usefixtures("open_runs")
def test_a_lease_that_could_not_be_extended_is_given_up_before_its_end(training, leases, store, steady):
    [run], since = claimed(leases, training)
    with leases.runs([run], since):
        steady.at += LEASE_S * 5 / 6 - 0.001
        assert leases.holds(run)
        store.cut = True
        with pytest.raises(StoreBusy):
            leases.beat()
        steady.at += 0.001
        assert not leases.holds(run)
        store.cut = False
        leases.beat()  # nobody took it: the store still knows it as ours
        assert leases.holds(run)
    assert not leases.holds(run)


def test_a_cohort_that_outlived_its_lease_publishes_nothing_and_costs_its_runs_nothing(training, steady, open_runs):
    takes = [LEASE_S * 5 / 6, 1.0]

    def take() -> None:
        steady.at += takes.pop(0)

    parts = (training.store, Policies(), Slow(training.trainer, take), training.settings)
    scheduler = Scheduler(*parts, metrics=training.metrics, now=training.clock.now, monotonic=steady)
    assert scheduler.work_once(training.clock.now()) == len(open_runs)
    assert not any(training.store.versions(user) for user in open_runs)
    assert training.count("plora_fence_rejections_total") == len(open_runs)
    assert scheduler.work_once(training.clock.now()) == len(open_runs)  # the lease had not run out in the store
    assert all(training.store.versions(user) for user in open_runs)
    assert {(run.attempts, run.crashes, run.epoch) for run in training.store.runs()} == {(1, 0, 2)}


@pytest.mark.usefixtures("open_runs")
def test_how_long_a_claim_took_shortens_what_is_left_of_it(training, leases, steady):
    [run], since = claimed(leases, training)
    steady.at += 51  # the thread that works on it was that late
    with leases.runs([run], since):
        assert not leases.holds(run)


@pytest.mark.usefixtures("open_runs")
def test_what_a_clock_of_a_wall_says_ends_no_lease(training, leases, steady):
    [run], since = claimed(leases, training)
    with leases.runs([run], since):
        for jump in (3600, -7200):
            training.clock.advance(jump)
            steady.at += 1
            assert leases.holds(run)
            assert run.id not in {each.id for each in claimed(leases, training, 100)[0]}
        leases.beat()
        assert training.store.run(run.id).crashes == 0
    training.store.fail_run(run.id, run.epoch, "x", "y", training.clock.now())


@pytest.mark.usefixtures("open_runs")
def test_a_claim_that_was_given_up_goes_back_unspent_with_the_next_claim(training, leases):
    [run], _ = claimed(leases, training)
    leases.owe(run)
    again, _ = claimed(leases, training, 100)
    [same] = [each for each in again if each.id == run.id]
    assert (same.epoch, same.attempts, same.crashes) == (run.epoch + 1, 1, 0)


@pytest.mark.usefixtures("open_runs")
def test_a_claim_that_another_took_is_not_given_back(training, leases):
    [run], _ = claimed(leases, training)
    leases.owe(run)
    later = training.clock.now() + timedelta(seconds=LEASE_S + 1)
    [taken] = [each for each in training.store.claim_runs("two", 100, LEASE_S, later) if each.id == run.id]
    leases.claim_runs("one", 1, later)
    assert training.store.run(run.id).epoch == taken.epoch
    assert training.store.run(run.id).state is RunState.RUNNING


@pytest.mark.usefixtures("open_runs")
def test_release_gives_everything_back_and_fences_it(training, leases):
    runs, since = claimed(leases, training, 3)
    with leases.runs(runs, since):
        assert leases.release("stopped") == 3
        for run in runs:
            now = training.store.run(run.id)
            assert (now.state, now.epoch, now.attempts, now.error_code) == (RunState.QUEUED, run.epoch, 0, "stopped")
            with pytest.raises(StaleEpoch):
                training.store.retry_run(run.id, run.epoch, training.clock.now(), "late", training.clock.now())
