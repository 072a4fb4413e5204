"""What the daemon costs for each user beside the passes, and how busy it keeps its Trainers.

A real stack: the Store on SQLite, every value sealed, and the scheduler that the daemon runs. One cohort at a time, in
one thread, shows what each part costs; then cohorts overlap as they do in a daemon. Everybody's adapter is promoted,
which costs the most. With no replicas the Trainer is in this process, else they are Ray Serve's, behind HTTP.
"""

import gc
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import cast

import torch

import plora
from daemon.bases import BasisContents
from daemon.choices import FitChoices
from daemon.http_trainer import HttpTrainer
from daemon.in_process_trainer import InProcessTrainer
from daemon.messages import BasisRequest, BasisTrained, FitAnswer, FitRequest
from daemon.metrics import Metrics
from daemon.models import Models
from daemon.ray_child import RayChild
from daemon.scheduler import Scheduler
from daemon.settings import Settings
from daemon.trainer_client import TrainerClient
from daemon.trainer_order import TrainerOrder
from policies import Policies
from policies.promotion import Promote
from policies.selection import Budget
from policies.trigger import Limits
from storage import EventKind, KeyRing, NewEvent, Store

START = datetime(2031, 1, 1, 8, tzinfo=UTC)
COHORT = 256
COHORTS_AHEAD = 4
MAX_TOKENS = 128
PATIENCE_S = 3600.0
WORDS = ("lamp", "table", "river", "stone", "music", "winter", "garden", "letter", "engine", "island")
PARTS: Mapping[str, tuple[str, ...]] = {
    "claim_ms": ("claim_runs", "claim_basis"),
    "read_ms": ("materials",),
    "publish_ms": ("finish_runs", "versions_of", "delete_outlived"),
}


def measure(users: int, examples: int, replicas: int, *, model: str = "minilm") -> dict[str, object]:
    """Milliseconds per user of everything but the passes, for newcomers and again after one new example each.

    `examples` are those learnt from. `busy` is the share of the replicas' time that passes take while cohorts overlap.
    """
    with tempfile.TemporaryDirectory() as folder, _stack(Path(folder), replicas, model) as stack:
        recorded = round(examples * 1.5)  # a third is held out
        stack.record("warm", 4 * max(1, replicas), 0, recorded)
        stack.overlap()
        stack.record("user", users, 0, recorded)
        first = stack.one_by_one(users)
        stack.record("user", users, recorded, 1)
        again = stack.one_by_one(users)
        found = {"users": users, "examples_per_user": examples, "replicas": replicas} | first
        found |= {"refit_overhead_ms": again["overhead_ms"], "refit_passes_ms": again["passes_ms"]}
        if replicas:
            stack.record("more", COHORTS_AHEAD * users, 0, recorded)
            found |= stack.overlap()
        return found


class Timed:
    """An object whose calls are timed by name."""

    def __init__(self, inner: object, seconds: defaultdict[str, float]) -> None:
        self._inner, self._seconds = inner, seconds

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)

        def call(*args: object, **named: object) -> object:
            begun = perf_counter()
            try:
                return found(*args, **named)
            finally:
                self._seconds[name] += perf_counter() - begun

        return call if callable(found) else found


@dataclass
class Listening:
    """A TrainerClient that adds up what passes took, and what asking took."""

    real: TrainerClient
    passes_s: float = 0.0
    asked_s: float = 0.0

    def fit(self, request: FitRequest, basis: Callable[[], bytes]) -> FitAnswer:
        begun = perf_counter()
        answer = self.real.fit(request, basis)
        self.asked_s += perf_counter() - begun
        self.passes_s += answer.fit_s + answer.score_s
        return answer

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


@dataclass
class Stack:
    """A daemon's training side, without its HTTP."""

    store: Store
    tenant: str
    trainer: Listening
    settings: Settings
    parts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    now: datetime = START

    def record(self, name: str, users: int, first: int, count: int) -> None:
        """So many examples of each user."""
        self.now += timedelta(hours=1)
        for user in range(users):
            who = f"{name}-{user}"
            events = [
                NewEvent("/bench", f"{who}-{at}", who, EventKind.EXAMPLE, _content(user, at))
                for at in range(first, first + count)
            ]
            self.store.record_events(self.tenant, events, self.now, default_consent=True)

    def one_by_one(self, users: int) -> dict[str, object]:
        """Fit everybody, cohort after cohort in this thread, and tell what each part took."""
        scheduler = self._scheduler()
        opening_s = _timed(lambda: self._open(scheduler))
        self.parts.clear()
        self.trainer.passes_s = self.trainer.asked_s = 0.0
        begun, fitted = perf_counter(), 0
        while claimed := scheduler.work_once(self.now):
            fitted += claimed
        wall_s = perf_counter() - begun
        if fitted != users:
            raise RuntimeError(f"{fitted} of {users} users were fitted")
        overhead_s = wall_s - self.trainer.passes_s
        seconds = {name: sum(self.parts[each] for each in methods) for name, methods in PARTS.items()}
        seconds["request_ms"] = self.trainer.asked_s - self.trainer.passes_s
        seconds["rest_ms"] = overhead_s - sum(seconds.values())
        each = {"overhead_ms": overhead_s, "passes_ms": self.trainer.passes_s, "opening_ms": opening_s} | seconds
        milliseconds = {name: round(1000 * took / users, 3) for name, took in each.items()}
        return {"overhead_share": round(overhead_s / self.trainer.passes_s, 4), **milliseconds}

    def overlap(self) -> dict[str, object]:
        """Fit everybody as a daemon does, with cohorts in flight."""
        scheduler = self._scheduler()
        self._open(scheduler)
        runs = self.store.health(self.now).queue_depth
        self.trainer.passes_s = 0.0
        begun = perf_counter()
        scheduler.start()
        scheduler.nudge()
        if not scheduler.wait_idle(PATIENCE_S):
            raise RuntimeError("the scheduler did not become idle")
        wall_s = perf_counter() - begun
        scheduler.stop()
        busy = self.trainer.passes_s / wall_s / self.settings.replicas
        return {"users_per_s": round(runs / wall_s, 2), "busy": round(busy, 3)}

    def _open(self, scheduler: Scheduler) -> None:
        while scheduler.tick(self.now):
            pass

    def _scheduler(self) -> Scheduler:
        timed = cast(Store, Timed(self.store, self.parts))
        return Scheduler(
            timed,
            Policies(judge=lambda *_: Promote("it is measured", "beats_generic")),
            cast(TrainerClient, self.trainer),
            self.settings,
            metrics=Metrics(),
            now=lambda: self.now,
            contents=BasisContents(timed),
        )


def _timed(act: Callable[[], None]) -> float:
    begun = perf_counter()
    act()
    return perf_counter() - begun


def _pair(user: int, at: int) -> tuple[str, str]:
    draw = random.Random(f"{user}:{at}")
    text = " ".join(draw.choice(WORDS) for _ in range(draw.randrange(8, 24)))
    return f"{text} {at}", "good" if ("lamp" in text) == bool(user % 2) else "bad"


def _content(user: int, at: int) -> bytes:
    text, label = _pair(user, at)
    return json.dumps({"label": label, "text": text}, sort_keys=True, separators=(",", ":")).encode()


def _basis(model: str) -> tuple[Models, BasisTrained]:
    torch.set_num_threads(1)
    models = Models(plora.load(model, device="cpu", max_tokens=MAX_TOKENS))
    population = tuple(tuple(_pair(user, at) for at in range(8)) for user in range(8))
    trainer = InProcessTrainer(lambda: models, bytes(32))
    return models, trainer.train_basis(BasisRequest("0", 1, epochs=2), lambda: [population])


@contextmanager
def _stack(folder: Path, replicas: int, model: str) -> Iterator[Stack]:
    settings = Settings(
        data_dir=folder / "data",
        keys_dir=folder / "keys",
        model=model,
        replicas=max(1, replicas),
        claim_limit=COHORT,
        fit=FitChoices(max_users=COHORT, token_budget=1 << 30),
        trigger=Limits(min_fresh=1, cooldown_s=0.0, max_runs_per_day=1000),
        selection=Budget(max_examples=4096),
        tick_s=PATIENCE_S,
    )
    models, trained = _basis(model)
    ring = KeyRing.create(settings.keys_path)
    settings.data_dir.mkdir()
    with Store.open(settings.store_url, keyring=ring, blobs=settings.blobs_path, now=START) as store:
        tenant = store.ensure_tenant("default", START).id
        _give(store, tenant, trained)
        with _trainer(settings, ring, models, replicas) as trainer:
            gc.collect()
            gc.freeze()  # as daemon/server.py does
            try:
                yield Stack(store, tenant, Listening(trainer), settings)
            finally:
                gc.unfreeze()


def _give(store: Store, tenant: str, made: BasisTrained) -> None:
    store.open_basis(tenant, "main", "", START)
    claimed = store.claim_basis("bench", 60.0, START)
    if claimed is None:
        raise RuntimeError("no Basis to claim")
    store.finish_basis(claimed.id, claimed.epoch, made.fingerprint, made.base, made.content, made.report, START)


@contextmanager
def _trainer(settings: Settings, ring: KeyRing, models: Models, replicas: int) -> Iterator[TrainerClient]:
    key = ring.transport_key()
    if not replicas:
        yield InProcessTrainer(lambda: models, key)
        return
    order = TrainerOrder(model=settings.model, max_tokens=MAX_TOKENS, device="cpu", threads=1, replicas=replicas)
    child = RayChild(order, key_file=ring.transport_path, data_dir=settings.data_dir)
    child.start()
    client = HttpTrainer(lambda: child.url, key)
    try:
        if not child.wait_ready(300):
            raise RuntimeError("the trainer did not start")
        yield client
    finally:
        client.close()
        child.stop()
