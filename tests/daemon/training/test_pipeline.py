"""A replica opens the next request while it works on one, and the daemon has the next cohort ready for it."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from daemon.pipeline import AHEAD, Pipeline
from daemon.scheduler import COHORTS_PER_REPLICA
from storage import RunState, Unreadable

PATIENCE_S = 30.0


class Steps:
    """The steps of a replica, which wait where they are told to and note what they did."""

    def __init__(self) -> None:
        self.seen, self.lock = [], threading.Condition()
        self.go = threading.Event()
        self.working = self.most_working = 0

    def note(self, what: str) -> None:
        with self.lock:
            self.seen.append(what)
            self.lock.notify_all()

    def wait_for(self, what: str) -> bool:
        with self.lock:
            return self.lock.wait_for(lambda: what in self.seen, PATIENCE_S)

    def receive(self, envelope: bytes) -> str:
        if envelope == b"bad":
            raise Unreadable("the request")
        self.note(f"open {envelope.decode()}")
        return envelope.decode()

    def act(self, name: str) -> str:
        self.working += 1
        self.most_working = max(self.most_working, self.working)
        self.note(f"act {name}")
        assert self.go.wait(PATIENCE_S)
        self.working -= 1
        return name.upper()

    def reply(self, name: str, answered: str) -> bytes:
        self.note(f"reply {name}")
        return answered.encode()

    def pipeline(self) -> Pipeline:
        return Pipeline(self.receive, self.act, self.reply, ThreadPoolExecutor(1))


def test_the_next_request_is_opened_while_one_is_worked_on_and_no_further_one():
    steps = Steps()

    async def ask_four() -> list[bytes]:
        pipeline = steps.pipeline()
        asked = [asyncio.create_task(pipeline.work(name.encode())) for name in "abcd"]
        assert await asyncio.to_thread(steps.wait_for, "act a")
        assert await asyncio.to_thread(steps.wait_for, "open b")
        assert sum(each.startswith("open") for each in steps.seen) == AHEAD
        steps.go.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(ask_four()) == [b"A", b"B", b"C", b"D"]
    assert steps.most_working == 1
    assert [each for each in steps.seen if each.startswith("act")] == ["act a", "act b", "act c", "act d"]


def test_an_answer_is_sealed_while_later_requests_are_opened_and_worked_on():
    steps, sealing = Steps(), threading.Event()
    steps.go.set()
    reply = steps.reply

    def slow_reply(name: str, answered: str) -> bytes:
        if name == "a":
            assert steps.wait_for("act c")  # would wait for ever, were it in the way of the work
            sealing.set()
        return reply(name, answered)

    steps.reply = slow_reply

    async def ask_three() -> list[bytes]:
        pipeline = steps.pipeline()
        return await asyncio.gather(*(pipeline.work(name.encode()) for name in "abc"))

    assert asyncio.run(ask_three()) == [b"A", b"B", b"C"]
    assert sealing.is_set()


def test_a_request_that_cannot_be_opened_makes_room_for_the_next():
    steps = Steps()
    steps.go.set()

    async def ask() -> bytes:
        pipeline = steps.pipeline()
        for _ in range(3 * AHEAD):
            with pytest.raises(Unreadable):
                await pipeline.work(b"bad")
        return await asyncio.wait_for(pipeline.work(b"a"), PATIENCE_S)

    assert asyncio.run(ask()) == b"A"


class Gate:
    """A trainer that lets cohorts in, and out only when told; it counts who is inside."""

    def __init__(self, real) -> None:
        self.real, self.changed = real, threading.Condition()
        self.inside, self.most, self.sizes, self.open = 0, 0, [], False

    def fit(self, request, basis):
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.sizes.append(len(request.members))
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.open, PATIENCE_S)
        try:
            return self.real.fit(request, basis)
        finally:
            with self.changed:
                self.inside -= 1

    def wait_inside(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.inside >= count, PATIENCE_S)

    def let_go(self) -> None:
        with self.changed:
            self.open = True
            self.changed.notify_all()

    def __getattr__(self, name: str):
        return getattr(self.real, name)


@pytest.mark.parametrize("replicas", [1, 2])
def test_each_replica_has_one_cohort_at_work_and_one_ready(training, users, replicas):
    more = [training.record(f"more-{user}", training.taste(user, 16, seed=3)) for user in range(6)]
    gate = Gate(training.trainer)
    daemon = training.with_trainer(gate, replicas=replicas, claim_limit=2)
    daemon.scheduler.start()
    daemon.scheduler.nudge()
    try:
        assert gate.wait_inside(COHORTS_PER_REPLICA * replicas)
        queued = daemon.store.runs(state=RunState.QUEUED)
        claimed = sum(gate.sizes)
        assert len(queued) == len(users) + len(more) - claimed
        assert queued
    finally:
        gate.let_go()
        assert daemon.scheduler.wait_idle(60)
        daemon.scheduler.stop()
    assert gate.most == COHORTS_PER_REPLICA * replicas
    assert all(len(daemon.store.versions(user)) == 1 for user in (*users, *more))


def test_two_replicas_fit_at_the_same_time(training, users):
    """Each replica does one request at a time; the barrier opens only when both are at it."""
    both, busy = threading.Barrier(2, timeout=PATIENCE_S), [threading.Lock(), threading.Lock()]
    met = []

    class Two(Gate):
        def fit(self, request, basis):
            mine = next((lock for lock in busy if lock.acquire(blocking=False)), None)
            assert mine is not None, "a third cohort at once"
            try:
                met.append(both.wait())
                return self.real.fit(request, basis)
            finally:
                mine.release()

    daemon = training.with_trainer(Two(training.trainer), replicas=2)
    daemon.scheduler.start()
    daemon.scheduler.nudge()
    assert daemon.scheduler.wait_idle(60)
    daemon.scheduler.stop()
    assert sorted(met) == [0, 1]
    assert all(daemon.store.versions(user) for user in users)


def test_a_cohort_in_waiting_is_put_back_when_the_daemon_stops(training, users):
    gate = Gate(training.trainer)
    daemon = training.with_trainer(gate, claim_limit=3, stop_s=0.1)
    daemon.scheduler.start()
    daemon.scheduler.nudge()
    assert gate.wait_inside(2)
    daemon.scheduler.stop()
    runs = daemon.store.runs(state=RunState.QUEUED)
    gate.let_go()
    assert {run.user for run in runs} == set(users)
    training.work()
    assert all(len(training.store.versions(user)) == 1 for user in users)
