"""What a million users change: the same calls beside few and beside many other users, taken in turn."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from benchmarks.store.crowd import fill
from benchmarks.store.places import START, Place
from benchmarks.store.rows import Cost
from daemon.http_trainer import HttpTrainer
from daemon.metrics import Metrics
from daemon.scheduler import Scheduler
from daemon.settings import Settings
from policies import Policies
from policies.trigger import Limits
from storage import FinishedRun, Run, RunState

FEW, MANY = 1_000, 1_000_000
REAL = 600
CLAIMED = 64
DUE = 100
LIMIT = 1.3
Timed = Callable[["Side", int], float]


@dataclass
class Side:
    """A database with some users that can be asked for, beside the others."""

    place: Place
    ids: list[str]
    scheduler: Scheduler
    now: datetime = START
    waiting: list[Run] = field(default_factory=list)

    @property
    def writers(self) -> range:
        return range(200)

    @property
    def claimed(self) -> Sequence[str]:
        return self.ids[200 : 200 + CLAIMED]

    @property
    def readers(self) -> Sequence[str]:
        return self.ids[300:400]

    @property
    def due(self) -> Sequence[str]:
        return self.ids[400 : 400 + DUE]


def prepared(place: Place, users: int) -> Side:
    """`users` in all, of which `REAL` are made by the store itself."""
    ids = place.people(REAL, 3)
    fill(place, users - REAL)
    store = place.store
    store.open_basis(place.tenant, "main", "", START)
    basis = store.claim_basis("bench", 600, START)
    if basis is None:
        raise RuntimeError("the basis that was just opened can not be claimed")
    store.finish_basis(basis.id, basis.epoch, "ba515" * 8, "ba5e" * 16, b"content", "{}", START)
    settings = Settings(trigger=Limits(cooldown_s=0.0, max_runs_per_day=1_000_000))
    trainer = HttpTrainer(lambda: None, bytes(32))
    side = Side(place, ids, Scheduler(store, Policies(), trainer, settings, metrics=Metrics(), now=lambda: START))
    for number in range(8):
        events = [place.event(f"user-{ids.index(user)}", number) for user in side.due]
        store.record_events(place.tenant, events, START, default_consent=True)
    store.open_runs([(user, "ba515" * 8, "a benchmark") for user in side.readers], START)
    made = FinishedRun(b"p" * 600, True, "beats_generic", "because", "{}", "ba5e" * 16, "ba515" * 8, 0)
    claims = store.claim_runs("bench", len(side.readers), 600, START)
    store.finish_runs([(run.id, run.epoch, made) for run in claims], START)
    store.open_runs([(user, "ba515" * 8, "a benchmark") for user in side.claimed], START)
    return side


def measure(database: str, few: Side, many: Side, rounds: int) -> Iterator[Cost]:
    """A line for every kind of call."""
    for what, (timed, times) in CALLS.items():
        found: dict[int, list[float]] = {0: [], 1: []}
        for turn in range(rounds * times):
            sides = (few, many) if turn % 2 else (many, few)
            for side in sides:
                found[side is many].append(timed(side, turn))
        skipped = max(1, rounds * times // 10)  # the first ones fill caches
        medians = [statistics.median(found[at][skipped:]) * 1_000 for at in (0, 1)]
        yield Cost(database, what, medians[0], medians[1], rounds * times, LIMIT if what in LIMITED else None)


def _clocked(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ingest(side: Side, turn: int) -> float:
    event = side.place.event(f"user-{side.writers[turn % len(side.writers)]}", turn)
    return _clocked(lambda: side.place.store.record_events(side.place.tenant, [event], START))


def _claim(side: Side, _: int) -> float:
    store, claims = side.place.store, []
    took = _clocked(lambda: claims.extend(store.claim_runs("bench", CLAIMED, 600, side.now)))
    if len(claims) != CLAIMED:
        raise RuntimeError(f"{len(claims)} of {CLAIMED} runs could be claimed")
    store.return_runs([(run.id, run.epoch) for run in claims], "bench", side.now)
    return took


def _read(side: Side, turn: int) -> float:
    return _clocked(lambda: side.place.store.current_adapter(side.readers[turn % len(side.readers)]))


def _tick(side: Side, _: int) -> float:
    """Everybody who is due gets a run; afterwards these are cancelled, so that they are due again."""
    side.now += timedelta(seconds=1)
    took = _clocked(lambda: side.scheduler.tick(side.now))
    mine = set(side.due)
    opened = [run for run in side.place.store.runs(state=RunState.QUEUED, limit=1000) if run.user in mine]
    if len(opened) != DUE:
        raise RuntimeError(f"{len(opened)} of {DUE} users who are due got a run")
    for run in opened:
        side.place.store.cancel_run(run.id, "a benchmark", side.now)
    return took


def _idle_tick(side: Side, turn: int) -> float:
    if not turn:
        side.scheduler.tick(side.now)  # now they all have a run
    return _clocked(lambda: side.scheduler.tick(side.now))


def _health(side: Side, _: int) -> float:
    return _clocked(lambda: side.place.store.health(side.now))


CALLS: dict[str, tuple[Timed, int]] = {
    "one event": (_ingest, 10),
    f"claim of {CLAIMED} runs": (_claim, 3),
    "one adapter": (_read, 10),
    f"tick, {DUE} users due": (_tick, 1),
    "tick, nobody due": (_idle_tick, 5),
    "figures for metrics": (_health, 1),
}
LIMITED = frozenset(CALLS) - {"figures for metrics"}
