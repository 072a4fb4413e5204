"""Rollouts under way: which arm answers for a user, and a thread that ends those which are decided.

A request asks the database for the tenant's open rollout at most once a second: when one has ended, its arms go on to
be named for that long. Whatever an end moves is moved in the rows, and shows in the next answer.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta

from daemon import logs
from daemon.arms import Chosen
from daemon.metrics import Metrics
from policies import Policies
from policies.rollout import Continue, Effect, Promote, RollBack, Rules, Seen, Trial, effect
from storage import NewRollout, Rollout, RolloutEnded, Serving, Store

KEPT_S = 1.0
LOOK_S = 5.0
PRUNE_S = 3_600.0
STOP_S = 5.0
TREATMENT = "current"
PROMOTED, CANCELLED, RETURNING = "promoted", "cancelled", "returning"
Decided = Continue | Promote | RollBack


class Rollouts:
    """Chooses arms, starts rollouts and ends them. Thread-safe."""

    def __init__(
        self,
        store: Store,
        policies: Policies,
        metrics: Metrics,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        moves_days: int,
    ) -> None:
        self._store, self._policies, self._metrics = store, policies, metrics
        self._now, self._monotonic = now, monotonic
        self._kept_for = timedelta(days=moves_days)
        self._open: dict[str, tuple[float, Rollout | None]] = {}
        self._next_prune = monotonic()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="rollouts", daemon=True)

    def needs_previous(self, tenant: str) -> bool:
        """Whether what served users before has to be looked up to `choose`."""
        rollout = self._of(tenant)
        return rollout is not None and rollout.control == "previous"

    def choose(self, tenant: str, serving: Serving) -> Chosen:
        """What answers. Whose arms would be served the same is in none."""
        rollout = self._of(tenant)
        if rollout is None or serving.current is None:
            return Chosen(serving.current)
        control = serving.previous if rollout.control == "previous" else None
        if rollout.control == "previous" and control is None:
            return Chosen(serving.current)
        if self._policies.treats(serving.user, rollout.salt, rollout.share):
            return Chosen(serving.current, rollout.id, TREATMENT)
        return Chosen(control, rollout.id, rollout.control)

    def start_one(self, tenant: str, wanted: NewRollout, actor: str) -> Rollout:
        """Open a rollout. Raises RolloutOpen."""
        rollout = self._store.start_rollout(tenant, wanted, actor, self._now())
        self._open.pop(tenant, None)
        logs.write("rollout_started", {"rollout": rollout.id, "caller": actor})
        return rollout

    def end_one(self, rollout: Rollout, state: str, why: tuple[str, str], actor: str) -> Rollout:
        """Close an open one for a (code, reason). Raises RolloutEnded."""
        ended = self._store.end_rollout(rollout.id, state, why, actor, self._now())
        self._open.pop(rollout.tenant, None)
        self._metrics.rollouts.labels("rolled_back" if state == RETURNING else state).inc()
        logs.write("rollout_ended", {"rollout": rollout.id, "code": why[0], "caller": actor})
        self._wake.set()
        return ended

    def judged(self, rollout: Rollout, now: datetime) -> tuple[Decided, Effect]:
        """What policy says of it now, and what is known of the treatment's gain."""
        rules = rules_of(rollout)
        means = self._store.outcome_means(rollout.id, rules.outcomes_per_user)
        seen = [Seen(arm == TREATMENT, mean) for arm, mean in means]
        trial = Trial(rollout.share, rollout.started_at, seen)
        return self._policies.conclude(trial, rules, now), effect(trial, rules.error)

    def look(self, now: datetime) -> None:
        """End what is decided, and move whom an end has not moved yet."""
        for each in self._store.unfinished_rollouts():
            self._carry_out(each if each.state == RETURNING else self._decide(each, now), now)

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def _decide(self, rollout: Rollout, now: datetime) -> Rollout:
        decided, _ = self.judged(rollout, now)
        if isinstance(decided, Continue):
            return rollout
        state = PROMOTED if isinstance(decided, Promote) else RETURNING
        try:
            return self.end_one(rollout, state, (decided.code, decided.reason), "policy")
        except RolloutEnded:  # another daemon was first
            return rollout

    def _carry_out(self, rollout: Rollout, now: datetime) -> None:
        if rollout.state == RETURNING:
            moved = self._store.return_rollout(rollout, now)
            logs.write("rollout_returned", {"rollout": rollout.id, "users": moved})

    def _of(self, tenant: str) -> Rollout | None:
        at, rollout = self._open.get(tenant, (0.0, None))
        if tenant not in self._open or self._monotonic() - at >= KEPT_S:
            at, rollout = self._monotonic(), self._store.open_rollout(tenant)
            self._open[tenant] = (at, rollout)
        return rollout

    def _go_on(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look(self._now())
                if self._monotonic() >= self._next_prune:
                    self._next_prune = self._monotonic() + PRUNE_S
                    self._store.prune_history(self._now() - self._kept_for, self._now())
            except Exception as error:  # noqa: BLE001 - the next look comes
                logs.write_error("rollouts", error)
            self._wake.wait(LOOK_S)
            self._wake.clear()


def rules_of(rollout: Rollout) -> Rules:
    """The rules that were given with it."""
    return Rules(**json.loads(rollout.rules))


def rules_text(rules: Rules) -> str:
    """The rules as they are kept."""
    return json.dumps(asdict(rules), sort_keys=True)
