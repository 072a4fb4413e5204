"""Claimed runs carried out: events to examples, examples to a cohort, its outcomes through the gate into the store."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby

from daemon import logs
from daemon.bases import BasisContents
from daemon.events import LabelledExample, examples_of
from daemon.facts import candidates_of, inventory_of, load_of, pause_s, seed_of, waited_s
from daemon.leases import Leases
from daemon.messages import FitRequest, Member, MemberFailed, MemberFitted
from daemon.metrics import Metrics
from daemon.settings import Settings
from daemon.trainer_client import TrainerClient, TrainerError, TrainerFailed, TrainerLost
from policies import Policies
from policies.promotion import Promote
from policies.selection import NotEnough
from storage import Event, FinishedRun, Run, StaleEpoch, Store

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
ABSENCES = frozenset({"trainer_unavailable", "trainer_refused", "stopped"})
"""Error codes that say nothing about the run itself."""

HOPELESS = frozenset({"no_examples", "unknown_label", "nothing_held_out"})
"""A member's failures that the same events would only repeat."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run with what it learns from and what it is judged on."""

    run: Run
    events: tuple[Event, ...] = field(repr=False)
    learn: tuple[LabelledExample, ...] = field(repr=False)
    held_out: tuple[LabelledExample, ...] = field(repr=False)
    current: bytes | None = field(repr=False)

    @property
    def watermark(self) -> int:
        return max((event.seq for event in self.events), default=0)

    def to_member(self) -> Member:
        """As the Trainer is asked."""
        return Member(
            run=self.run.id,
            epoch=self.run.epoch,
            learn=tuple((each.text, each.label) for each in self.learn),
            held_out=tuple((each.text, each.label) for each in self.held_out),
            current=self.current,
        )


class Cohorts:
    """Carries out claimed runs. Whatever goes wrong with one ends up in that run's row and harms no other."""

    def __init__(
        self,
        store: Store,
        policies: Policies,
        trainer: TrainerClient,
        settings: Settings,
        *,
        leases: Leases,
        contents: BasisContents,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._policies, self._trainer, self._settings = store, policies, trainer, settings
        self._leases, self._contents, self._metrics, self._now = leases, contents, metrics, now

    def carry_out(self, runs: Sequence[Run]) -> None:
        """Settle every run: succeeded, failed, cancelled, queued again, or dropped because its claim was lost."""
        with self._leases.runs(runs):
            ordered = sorted(runs, key=lambda run: (run.tenant, run.basis))
            for (tenant, basis), group in groupby(ordered, key=lambda run: (run.tenant, run.basis)):
                prepared = [ready for run in group if (ready := self._prepare(run)) is not None]
                for cohort in self._pack(prepared):
                    self._fit(tenant, basis, cohort)

    def _prepare(self, run: Run) -> Prepared | None:
        try:
            events = tuple(self._store.events(run.user))
            examples = examples_of(events)
            choice = self._policies.what(candidates_of(examples), self._settings.selection, seed_of(run.user))
            if isinstance(choice, NotEnough):
                self._cancel(run, choice)
                return None
            by_seq = {each.seq: each for each in examples}
            learn = tuple(by_seq[seq] for seq in choice.learn)
            held_out = tuple(by_seq[seq] for seq in choice.held_out)
            return Prepared(run, events, learn, held_out, self._current_of(run))
        except Exception as error:  # noqa: BLE001 - around a run
            self._put_back(run, error)
            return None

    def _cancel(self, run: Run, choice: NotEnough) -> None:
        if self._holds(run):
            self._store.cancel_run(run.id, choice.code, self._now())
            self._count("cancelled", choice.code, run)

    def _current_of(self, run: Run) -> bytes | None:
        """The adapter in use, if it can be compared: it is of the same Basis."""
        current = self._store.current_adapter(run.user)
        return current.content if current is not None and current.version.basis == run.basis else None

    def _pack(self, prepared: Sequence[Prepared]) -> list[list[Prepared]]:
        """Cohorts within the token budget. A run that may have brought a Trainer down goes alone."""
        by_run = {each.run.id: each for each in prepared}
        settings = self._settings
        cohorts: list[list[Prepared]] = []
        for suspects, max_users in ((False, settings.fit.max_users), (True, 1)):
            loads = [
                load_of(each.run.id, (*each.learn, *each.held_out), settings.max_tokens)
                for each in prepared
                if is_suspect(each.run) is suspects
            ]
            packed = self._policies.pack(loads, settings.fit.token_budget, max_users)
            cohorts += [[by_run[run] for run in cohort] for cohort in packed]
        return cohorts

    def _fit(self, tenant: str, basis: str, cohort: Sequence[Prepared]) -> None:
        held = [each for each in cohort if self._holds(each.run)]
        if not held:
            return
        fit = self._settings.fit
        request = FitRequest(basis, tuple(each.to_member() for each in held), fit.steps, fit.learning_rate)
        try:
            answer = self._trainer.fit(request, partial(self._contents.read, tenant, basis))
        except Exception as error:  # noqa: BLE001 - around a run
            for each in held:
                self._put_back(each.run, error)
            return
        self._metrics.cohort_users.observe(len(held))
        self._metrics.fit_duration.observe(answer.fit_s)
        logs.write("cohort_fitted", {"runs": len(held), "seconds": round(answer.fit_s + answer.score_s, 3)})
        for each, outcome in zip(held, answer.outcomes, strict=True):
            self._settle(each, outcome)

    def _settle(self, prepared: Prepared, outcome: MemberFitted | MemberFailed) -> None:
        run = prepared.run
        if outcome.run != run.id or not self._holds(run):
            return
        try:
            if isinstance(outcome, MemberFailed):
                self._member_failed(run, outcome.code)
            else:
                self._finish(prepared, outcome)
        except Exception as error:  # noqa: BLE001 - around a run
            self._put_back(run, error)

    def _finish(self, prepared: Prepared, fitted: MemberFitted) -> None:
        """Judge the adapter, store the verdict with it, and forget what has been kept long enough."""
        run, now = prepared.run, self._now()
        decision = self._policies.judge(fitted.evidence, fitted.current, self._settings.promotion)
        promoted = isinstance(decision, Promote)
        finished = FinishedRun(
            adapter=fitted.adapter,
            promoted=promoted,
            code=decision.code,
            reason=decision.reason,
            scores=fitted.scores,
            base=fitted.base,
            basis=run.basis,
            watermark_seq=prepared.watermark,
        )
        self._store.finish_run(run.id, run.epoch, finished, now)
        self._metrics.versions.labels("promoted" if promoted else "rejected").inc()
        self._metrics.gain_over_generic.observe(fitted.evidence.gain)
        self._metrics.event_to_adapter.observe(waited_s(prepared.events, now))
        self._metrics.last_success.set(now.timestamp())
        self._count("succeeded", decision.code, run)
        self._keep(run.user, prepared.events, now)

    def _keep(self, user: str, events: Iterable[Event], now: datetime) -> None:
        inventory = inventory_of(self._store.versions(user), events)
        kept = self._policies.keep(inventory, self._settings.retention, now)
        if kept.forget_versions:
            self._store.delete_versions(user, [each.id for each in kept.forget_versions], now)
        if kept.forget_events:
            self._store.delete_events(user, [each.id for each in kept.forget_events], now)

    def _member_failed(self, run: Run, code: str) -> None:
        if code in HOPELESS or run.attempts >= self._settings.max_attempts:
            self._fail(run, code)
        else:
            self._retry(run, code)

    def _put_back(self, run: Run, error: Exception) -> None:
        """Queue the run again, or fail it if its own attempts are spent; an absent Trainer costs no attempt."""
        if isinstance(error, StaleEpoch):
            self._fenced(run)
            return
        code = error.code if isinstance(error, TrainerError) else type(error).__name__
        logs.write_error("run_attempt", error, {"run": run.id, "attempt": run.attempts, "code": code})
        ours = isinstance(error, TrainerFailed | TrainerLost) or not isinstance(error, TrainerError)
        try:
            if ours and run.attempts >= self._settings.max_attempts:
                self._fail(run, code)
            else:
                self._retry(run, code)
        except StaleEpoch:
            self._fenced(run)
        except Exception as other:  # noqa: BLE001 - the lease runs out, and the run is claimed again
            logs.write_error("run_put_back", other, {"run": run.id})

    def _retry(self, run: Run, code: str) -> None:
        now = self._now()
        pause = pause_s(run.attempts, run.id, base_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        self._store.retry_run(run.id, run.epoch, now + timedelta(seconds=pause), code, now)
        self._count("retried", code, run)

    def _fail(self, run: Run, code: str) -> None:
        self._store.fail_run(run.id, run.epoch, code, f"gave up after {run.attempts} attempts", self._now())
        self._count("failed", code, run)

    def _holds(self, run: Run) -> bool:
        if self._leases.holds(run):
            return True
        self._fenced(run)
        return False

    def _fenced(self, run: Run) -> None:
        self._metrics.fence_rejections.inc()
        logs.write("run_dropped", {"run": run.id, "epoch": run.epoch})

    def _count(self, outcome: str, code: str, run: Run) -> None:
        self._metrics.runs.labels(outcome, code).inc()
        logs.write("run", {"run": run.id, "epoch": run.epoch, "outcome": outcome, "code": code})


def is_suspect(run: Run) -> bool:
    """Whether it is time to see if this run is what brings Trainers down: it failed twice for no outer reason."""
    return run.crashes >= 2 or (run.attempts >= 3 and run.error_code is not None and run.error_code not in ABSENCES)
