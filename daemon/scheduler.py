"""The scheduler: looks at who is due, opens their runs, claims what is queued, and has it carried out.

The database is its only memory. Nothing here is lost when the process dies: open runs are rows, claims expire, and a
tick finds out again what is to be done. It never sleeps: it waits for an event that `consider`, a finished run, a
Trainer that became ready, or `stop` sets, and at most until the next tick.
"""

import logging
import os
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from daemon import clock, logs
from daemon.bases import BasisContents, BasisTraining
from daemon.cohorts import Cohorts
from daemon.duties import Duties
from daemon.facts import activity_of
from daemon.heartbeat import LIMITS as BEAT_LIMITS
from daemon.heartbeat import Beats
from daemon.leases import Leases
from daemon.messages import BasisProgress
from daemon.metrics import Metrics
from daemon.settings import Settings
from daemon.switches import TRAINING, Switches
from daemon.telemetry_runs import note_opened
from daemon.trainer_client import TrainerClient
from policies import Policies
from policies.trigger import Train, Wait
from storage import BasisRecord, Run, Store

DUE_PER_TICK = 500
COHORTS_PER_REPLICA = 2
UPKEEP_S = 600.0
STOP_S = 5.0
DRAIN_S = 60.0
STOPPED = "stopped"


class Scheduler:
    """Turns recorded events into judged adapters. Thread-safe."""

    def __init__(
        self,
        store: Store,
        policies: Policies,
        trainer: TrainerClient,
        settings: Settings,
        *,
        metrics: Metrics,
        now: Callable[[], datetime] = clock.now,
        contents: BasisContents | None = None,
        switches: Switches | None = None,
        stop_s: float = STOP_S,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._store, self._policies, self._trainer, self._settings = store, policies, trainer, settings
        self._metrics, self._now, self._stop_s = metrics, now, stop_s
        self._switches = switches or Switches(store)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._leases = Leases(store, settings.lease_s, now, monotonic)
        parts = (store, policies, trainer, settings)
        held = contents or BasisContents(store)
        self.beats = Beats(metrics, now)
        self._cohorts = Cohorts(*parts, leases=self._leases, contents=held, metrics=metrics, beats=self.beats, now=now)
        self._training = BasisTraining(*parts, leases=self._leases, metrics=metrics, now=now)
        self._duties = Duties(store, monotonic)
        self._wake, self._stopping, self._draining = threading.Event(), threading.Event(), threading.Event()
        self._busy: Counter[str] = Counter()
        self._quiet = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)

    def consider(self, user: str, now: datetime) -> Train | Wait:
        """Open a run for `user` if policy says so. Cheap: a few rows, and never any training."""
        return self._consider([user], now)[user]

    def decide(self, user: str, now: datetime) -> Train | Wait:
        """What `consider` would decide; opens nothing."""
        return self._decide([user], now)[0][user]

    def progress(self, basis: int) -> BasisProgress | None:
        """How far a Basis that is being trained here has come."""
        return self._training.progress(basis)

    def tick(self, now: datetime) -> int:
        """Consider everyone who may be due; for how many policy said to train."""
        self._metrics.ticks.inc()
        if self._switches.paused(TRAINING):
            return 0
        if not any(self._store.current_basis(tenant.id) for tenant in self._store.tenants()):
            return 0  # without a Basis everyone has to wait
        limits = self._settings.trigger
        least = limits.min_fresh if limits.max_wait_s is None else 1
        decisions = self._consider(self._store.due_users(now, DUE_PER_TICK, least, limits.min_fresh_dead), now)
        until = {user: each.until for user, each in decisions.items() if isinstance(each, Wait) and each.until}
        if until:
            self._store.postpone_users(until, now)  # or they would hide who is behind them
        return sum(isinstance(each, Train) for each in decisions.values())

    def _consider(self, whom: Sequence[str], now: datetime) -> dict[str, Train | Wait]:
        decisions, wanted, seen = self._decide(whom, now)
        if wanted and (opened := self._store.open_runs(wanted, now, seen=seen)):
            note_opened(opened.values())
            self.beats.passed(opened, "opened")
            # failpoint: runs-opened
            self.nudge()
        return decisions

    def _decide(
        self, whom: Sequence[str], now: datetime
    ) -> tuple[dict[str, Train | Wait], list[tuple[str, str, str]], dict[str, datetime | None]]:
        """The decision on each user; what is to be opened; and the last runs that were seen."""
        rows = self._store.activities(whom, now)
        bases = {tenant: self._store.current_basis(tenant) for tenant in {row.tenant for row in rows.values()}}
        decisions: dict[str, Train | Wait] = {}
        wanted: list[tuple[str, str, str]] = []
        for user in whom:
            if (row := rows.get(user)) is None:
                decisions[user] = Wait("there is no such user", "unknown_user")
                continue
            if self._switches.paused(TRAINING):
                decisions[user] = Wait("an operator has paused training", "paused")
                continue
            basis = bases[row.tenant]
            activity = activity_of(row, basis_ready=basis is not None)
            limits = BEAT_LIMITS if row.synthetic else self._settings.trigger
            decision = decisions[user] = self._policies.when(activity, limits, now)
            if isinstance(decision, Train) and basis is not None and basis.fingerprint is not None:
                wanted.append((user, basis.fingerprint, decision.reason))
        return decisions, wanted, {user: row.last_run_at for user, row in rows.items()}

    def work_once(self, now: datetime) -> int:
        """Claim what is queued and carry it out in this thread; how many Bases and runs were claimed."""
        basis = self._claim_basis(now)
        if basis is not None:
            self._carry_out_basis(basis)
        runs, since = self._claim_runs(now)
        self._cohorts.carry_out(runs, since)
        return len(runs) + (basis is not None)

    def start(self) -> None:
        """Begin to look and to work, in threads of its own."""
        self._leases.start()
        self._thread.start()

    def nudge(self) -> None:
        """Look now rather than at the next tick."""
        with self._changed:
            self._quiet = False
        self._wake.set()

    def wait_idle(self, timeout_s: float) -> bool:
        """Whether, within `timeout_s`, a look found nothing to claim while nothing was at work."""
        with self._changed:
            return self._changed.wait_for(lambda: self._quiet, timeout_s)

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def working(self) -> int:
        """How many pieces of work are under way."""
        with self._changed:
            return self._busy.total()

    def drain(self) -> None:
        """Claim nothing more until the process ends. What is at work has DRAIN_S, then goes back into the queue."""
        if not self._draining.is_set():
            self._draining.set()
            threading.Thread(target=self._empty, name="drain", daemon=True).start()

    def _empty(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._busy.total(), DRAIN_S)
        self._release()

    def stop(self) -> None:
        """Claim nothing more, give what is at work a moment to end, and put the rest back into the queue."""
        self._stopping.set()
        self._wake.set()
        until = clock.monotonic() + self._stop_s
        if self._thread.ident is not None:
            self._thread.join(self._stop_s)
        with self._changed:
            self._changed.wait_for(lambda: not self._busy.total(), max(0.0, until - clock.monotonic()))
        self._leases.stop()
        self._release()
        self._in_peace("audit", lambda: self._duties.end(self._now()))

    def _loop(self) -> None:
        next_tick = next_upkeep = clock.monotonic()
        while not self._stopping.is_set():
            self._wake.wait(max(0.0, next_tick - clock.monotonic()))
            self._wake.clear()
            is_due = clock.monotonic() >= next_tick
            if is_due:
                next_tick = clock.monotonic() + self._settings.tick_s
            if clock.monotonic() >= next_upkeep:
                next_upkeep = clock.monotonic() + UPKEEP_S
                self._in_peace("upkeep", self._begin_upkeep)
            self._in_peace("tick", partial(self._look, is_due))
            if self._duties.due() and not self._busy["audit"]:
                self._in_peace("audit", lambda: self._begin("audit", lambda: self._duties.look(self._now())))

    def _begin_upkeep(self) -> None:
        """Beside everything else: a bucket may take its time."""
        if not self._busy["upkeep"]:
            self._begin("upkeep", self.keep_up)

    def keep_up(self) -> None:
        """What needs no haste: gauges, what a reader kept from being erased, blobs that no row names, and lost ones."""
        now = self._now()
        self._cohorts.expectations.look()
        self._store.scrub(now)
        self._duties.keep_up(now)
        self._store.sweep_blobs(now)
        found = self._store.scrub_blobs(now)
        if found.lost_bases or found.lost_adapters:
            facts = {"versions": len(found.lost_adapters), "count": len(found.lost_bases)}
            logs.write("lost", facts, level=logging.ERROR)

    def _in_peace(self, action: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - around a tick: the next one comes
            logs.write_error(action, error)

    def _look(self, is_due: bool) -> None:
        if is_due:
            self._switches.look()
            self.tick(self._now())
        paused = self._draining.is_set() or self._switches.paused(TRAINING)
        if self._stopping.is_set() or paused or not self._trainer.ready():
            return
        self._dispatch()
        with self._changed:
            self._quiet = not self._busy.total() and not self._wake.is_set()
            self._changed.notify_all()

    def _dispatch(self) -> None:
        """Claim for every free Trainer, and one cohort more for each to begin with when it is done with the first.

        Each share of a claim has a thread of its own: while one is fitted, another is made ready or settled.
        """
        if not self._busy["basis"] and (basis := self._claim_basis(self._now())) is not None:
            self._begin("basis", partial(self._carry_out_basis, basis))
        replicas = self._settings.replicas
        while (busy := self._busy["runs"]) < COHORTS_PER_REPLICA * replicas:
            runs, since = self._claim_runs(self._now())
            if not runs:
                return
            shares = min(max(1, replicas - busy), len(runs))
            for share in range(shares):
                self._begin("runs", partial(self._cohorts.carry_out, runs[share::shares], since))

    def _begin(self, kind: str, work: Callable[[], None]) -> None:
        with self._changed:
            self._busy[kind] += 1
            self._quiet = False

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - around a run: its lease runs out, and it is claimed again
                logs.write_error("work", error)
            finally:
                with self._changed:
                    self._busy[kind] -= 1
                    self._changed.notify_all()
                self.nudge()

        try:
            threading.Thread(target=run, name=f"scheduler-{kind}", daemon=True).start()
        except RuntimeError:  # no room for a thread: nothing of it was begun, and its lease runs out
            with self._changed:
                self._busy[kind] -= 1
            raise

    def _claim_runs(self, now: datetime) -> tuple[list[Run], float]:
        return self._leases.claim_runs(self.owner, self._settings.claim_limit, now)

    def _claim_basis(self, now: datetime) -> BasisRecord | None:
        return self._store.claim_basis(self.owner, self._settings.lease_s, now)

    def _carry_out_basis(self, basis: BasisRecord) -> None:
        if self._training.carry_out(basis):
            self.tick(self._now())
            self.nudge()

    def _release(self) -> None:
        try:
            logs.write("released", {"count": self._leases.release(STOPPED)})
        except Exception as error:  # noqa: BLE001 - at the end: the leases run out
            logs.write_error("release", error)
