"""Settling: a cohort's outcomes through the gate into the store, all in one transaction, and what did not work out.

A process that dies before that transaction has lost the cohort's work and nothing else: its runs are claimed again.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from daemon import logs
from daemon.facts import inventory_of, tries_of, waited_s
from daemon.failures import SPENT, code_of, failure_of
from daemon.heartbeat import Beats
from daemon.judging import Judging
from daemon.leases import Leases
from daemon.messages import MemberFailed, MemberFitted
from daemon.metrics import Metrics
from daemon.prepared import Prepared
from daemon.settings import Settings
from daemon.telemetry import Kind, exemplar
from daemon.telemetry_context import parse
from daemon.telemetry_runs import RunSpans, about
from daemon.verdict import Verdict
from policies import Policies
from policies.attempts import Dead, Failure
from policies.drift import Drifted, RollBack
from storage import AdapterVersion, FinishedRun, Outlived, Run, StaleEpoch, Store

HOPELESS = frozenset({"no_examples", "unknown_label", "nothing_held_out"})
"""A member's failures that the same events would only repeat."""

Judged = tuple[Prepared, MemberFitted, Verdict, FinishedRun]


class Settling:
    """Ends runs, each by itself. What goes wrong with one harms no other."""

    def __init__(
        self,
        store: Store,
        policies: Policies,
        settings: Settings,
        *,
        judging: Judging,
        leases: Leases,
        metrics: Metrics,
        beats: Beats,
        spans: RunSpans,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._policies, self._settings, self._judging = store, policies, settings, judging
        self._leases, self._metrics, self._beats, self._spans, self._now = leases, metrics, beats, spans, now

    def settle(self, cohort: Sequence[Prepared], outcomes: Sequence[MemberFitted | MemberFailed]) -> None:
        """Judge what was fitted, store every verdict, and forget what has been kept long enough."""
        judged: list[Judged] = []
        for prepared, outcome in zip(cohort, outcomes, strict=True):
            run = prepared.run
            if outcome.run != run.id or not self.holds(run):
                continue
            try:
                if isinstance(outcome, MemberFailed):
                    self._end(run, Failure.HOPELESS if outcome.code in HOPELESS else Failure.ERROR, outcome.code)
                else:
                    judged.append(self._judge(prepared, outcome))
            except Exception as error:  # noqa: BLE001 - around a run
                self.put_back(run, error)
        if judged:
            self._keep(self._finish(judged))

    def cancel(self, run: Run, code: str) -> None:
        """End a run for which there is nothing to do."""
        if self.holds(run):
            self._store.cancel_run(run.id, code, self._now())
            self._count("cancelled", code, run)

    def put_back(self, run: Run, error: Exception) -> None:
        """Queue the run again or give it up, as policy has it."""
        if isinstance(error, StaleEpoch):
            self._fenced(run)
            return
        code = code_of(error)
        logs.write_error("run_attempt", error, {**about(run), "attempt": run.attempts, "code": code})
        self._end(run, failure_of(error), code)

    def bury(self, run: Run, code: str, reason: str) -> None:
        """Give the run up. Its user waits until somebody asks for it, or enough new events have come."""
        with self._fencing(run):
            self._store.fail_run(run.id, run.epoch, code, reason, self._now())
            self._count("failed", code, run)

    def holds(self, run: Run) -> bool:
        """Whether the claim is surely still ours; the store has the last word."""
        if self._leases.holds(run):
            return True
        self._leases.owe(run)
        self._metrics.leases_lost.inc()
        self._fenced(run)
        return False

    def _judge(self, prepared: Prepared, fitted: MemberFitted) -> Judged:
        with self._spans.step("judge", [prepared.run]):
            drift = self._judging.watch(prepared, fitted)
            verdict = self._judging.judge(prepared, fitted, drift)
            return prepared, fitted, verdict, self._judging.finished(prepared, fitted, verdict)

    def _finish(self, judged: Sequence[Judged]) -> list[Prepared]:
        """Who got a version."""
        now = self._now()
        claims = [(prepared.run.id, prepared.run.epoch, made) for prepared, _, _, made in judged]
        written: dict[str, logs.Fact] = {"database": self._store.dialect, "operation": "finish_runs"}
        try:
            with self._spans.step("finish", [each.run for each, _, _, _ in judged], kind=Kind.CLIENT, facts=written):
                answers = self._store.finish_runs(claims, now)
        except Exception as error:  # noqa: BLE001 - around a run
            for prepared, _, _, _ in judged:
                self.put_back(prepared.run, error)
            return []
        # failpoint: finish-after-commit
        done = []
        for each, answer in zip(judged, answers, strict=True):
            prepared = each[0]
            if isinstance(answer, AdapterVersion):
                self._observe(each, now)
                done.append(prepared)
            else:
                self.put_back(prepared.run, answer)
        return done

    def _observe(self, judged: Judged, now: datetime) -> None:
        prepared, fitted, verdict, made = judged
        metrics, run = self._metrics, prepared.run
        metrics.last_success.set(now.timestamp())
        self._count("succeeded", made.code, run)
        if self._beats.is_ours(run.user):  # nobody waits for it, and nobody gains
            self._beats.passed([run.user], "settled")
            return
        metrics.versions.labels("promoted" if made.promoted else "rejected").inc()
        if made.promoted:
            metrics.promotions.labels(verdict.judged.part.value).inc()
            if verdict.judged.moved is not None:
                metrics.moved.observe(verdict.judged.moved)
        if made.retires is not None:
            metrics.versions.labels("rolled_back").inc()
            logs.write("rolled_back", {"user": run.user, "run": run.id, "code": verdict.drift.code})
        if prepared.current is not None:
            metrics.drift.labels(_state(verdict)).inc()
        metrics.fits.labels(fitted.mode.value).inc()
        metrics.fit_passes.labels(fitted.mode.value).inc(fitted.passes)
        if math.isfinite(verdict.judged.evidence.gain):
            metrics.gain_over_generic.observe(verdict.judged.evidence.gain)
        trace = exemplar(parse(run.trace))
        metrics.event_to_adapter.observe(waited_s(prepared.events, now), exemplar=trace)

    def _keep(self, done: Sequence[Prepared]) -> None:
        """Forget what has been kept long enough. If this fails, the user's next run does it."""
        now = self._now()
        try:
            versions = self._store.versions_of([each.run.user for each in done])
            outlived = [self._outlived(each, versions[each.run.user], now) for each in done]
            if any(each.versions or each.events for each in outlived):
                self._store.delete_outlived(outlived, now)
        except Exception as error:  # noqa: BLE001 - around runs that are settled
            logs.write_error("retention", error)

    def _outlived(self, prepared: Prepared, versions: Sequence[AdapterVersion], now: datetime) -> Outlived:
        kept = self._policies.keep(inventory_of(versions, prepared.events), self._settings.retention, now)
        return Outlived(
            prepared.run.user,
            versions=tuple(each.id for each in kept.forget_versions),
            events=tuple(each.id for each in kept.forget_events),
        )

    def _end(self, run: Run, failure: Failure, code: str) -> None:
        now = self._now()
        decision = self._policies.after(failure, tries_of(run), self._settings.attempts, now)
        if isinstance(decision, Dead):
            self.bury(run, code, decision.reason)
            return
        with self._fencing(run):
            self._store.retry_run(run.id, run.epoch, decision.at, code, now, spent=SPENT[failure])
            self._count("retried", code, run)

    @contextmanager
    def _fencing(self, run: Run) -> Iterator[None]:
        """Around a write that ends a claim: where the store does not answer, the claim is given back once it does."""
        try:
            yield
        except StaleEpoch:
            self._fenced(run)
        except Exception as error:  # noqa: BLE001 - around a run
            logs.write_error("run_put_back", error, {"run": run.id})
            self._leases.owe(run)

    def _fenced(self, run: Run) -> None:
        self._metrics.fence_rejections.inc()
        self._spans.settled(run, "fenced")
        logs.write("run_dropped", about(run))

    def _count(self, outcome: str, code: str, run: Run) -> None:
        self._metrics.runs.labels(outcome, code).inc()
        if (took_s := self._leases.age_s(run)) is not None:
            self._metrics.run_duration.observe(took_s)
        self._spans.settled(run, outcome, code)
        logs.write("run", {**about(run), "outcome": outcome, "code": code})


def _state(verdict: Verdict) -> str:
    if isinstance(verdict.drift, RollBack):
        return "rolled_back"
    return "drifted" if isinstance(verdict.drift, Drifted) else "steady"
