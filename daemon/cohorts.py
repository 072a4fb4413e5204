"""Claimed runs carried out: events to examples, examples to a cohort, its outcomes to be settled."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import groupby

from daemon import logs
from daemon.bases import BasisContents
from daemon.choices import FitChoices
from daemon.expectations import Expectations
from daemon.facts import load_of, tries_of
from daemon.heartbeat import Beats
from daemon.judging import Judging
from daemon.leases import Leases
from daemon.messages import FitAnswer, FitRequest, Member, MemberFailed, MemberFitted
from daemon.metrics import Metrics
from daemon.prepared import Prepared, prepare
from daemon.promises import Promise
from daemon.settings import Settings
from daemon.settling import Settling
from daemon.taught import Lesson, lesson_of
from daemon.telemetry import Kind
from daemon.telemetry_context import Trace
from daemon.telemetry_runs import RunSpans
from daemon.trainer_client import TrainerClient
from policies import Policies
from policies.attempts import Dead, Try
from policies.drift import Steady
from policies.selection import NotEnough
from storage import Material, Run, Store, Unreadable

AUTO = "auto"
Outcome = MemberFitted | MemberFailed


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
        beats: Beats,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._policies, self._trainer, self._settings = store, policies, trainer, settings
        self._leases, self._contents, self._metrics, self._beats = leases, contents, metrics, beats
        self._least, self._now = settings.selection.min_learn, now
        self._promise = promise_of(settings.fit)
        self.expectations = Expectations(store, settings.promotion, metrics, now)
        self._judging = Judging(policies, settings, self.expectations)
        self._spans = RunSpans()
        self._settling = Settling(
            *(store, policies, settings),
            judging=self._judging,
            leases=leases,
            metrics=metrics,
            beats=beats,
            spans=self._spans,
            now=now,
        )

    def carry_out(self, runs: Sequence[Run], since: float) -> None:
        """Settle every run: succeeded, failed, cancelled, queued again, or dropped because its claim was lost.

        `since` is the monotonic time from which their leases count.
        """
        with self._leases.runs(runs, since), self._spans.carried(runs):
            # failpoint: claimed
            self._beats.passed([run.user for run in runs], "claimed")
            tried = [run for run in runs if self._is_tried(run)]
            ordered = sorted(tried, key=lambda run: (run.tenant, run.basis))
            for (tenant, basis), group in groupby(ordered, key=lambda run: (run.tenant, run.basis)):
                for cohort in self._pack(self._prepare(tenant, basis, list(group))):
                    self._fit(tenant, basis, cohort)

    def _is_tried(self, run: Run) -> bool:
        decision = self._before(run, self._settings.fit.max_users)
        if isinstance(decision, Dead):
            self._settling.bury(run, decision.code, decision.reason)
        return isinstance(decision, Try)

    def _before(self, run: Run, company: int) -> Try | Dead:
        return self._policies.before(tries_of(run), self._settings.attempts, company)

    def _prepare(self, tenant: str, basis: str, runs: Sequence[Run]) -> list[Prepared]:
        with self._spans.step("prepare", runs):
            return self._prepare_all(tenant, basis, runs)

    def _prepare_all(self, tenant: str, basis: str, runs: Sequence[Run]) -> list[Prepared]:
        try:
            materials = self._store.materials([run.user for run in runs])
            lesson = self._lesson(tenant, basis)
        except Exception as error:  # noqa: BLE001 - around a run
            for run in runs:
                self._settling.put_back(run, error)
            return []
        return [ready for run in runs if (ready := self._prepare_one(run, materials[run.user], lesson))]

    def _lesson(self, tenant: str, basis: str) -> Lesson | None:
        """What taught the Basis of this fingerprint; the newest record of it, should there be several."""
        records = self._store.bases(tenant)
        record = next((each for each in records if each.fingerprint == basis), None)
        return None if record is None else lesson_of(record, self._settings.selection)

    def _prepare_one(self, run: Run, material: Material | Unreadable, lesson: Lesson | None) -> Prepared | None:
        try:
            if isinstance(material, Unreadable):
                self._store.mend_adapter(run.user, self._now())  # then the next attempt does without it
                raise material
            ready = prepare(run, material, self._policies, self._settings, lesson)
            if isinstance(ready, NotEnough):
                self._settling.cancel(run, ready.code)
                return None
            return ready
        except Exception as error:  # noqa: BLE001 - around a run
            self._settling.put_back(run, error)
            return None

    def _pack(self, prepared: Sequence[Prepared]) -> list[list[Prepared]]:
        """Cohorts within the token budget, of runs that may go in equally large company; the largest first."""
        by_company: dict[int, dict[int, Prepared]] = {}
        everybody = min(self._settings.fit.max_users, max(1, len(prepared)))
        for each in prepared:
            decision = self._before(each.run, everybody)
            company = decision.company if isinstance(decision, Try) else 1
            by_company.setdefault(company, {})[each.run.id] = each
        cohorts: list[list[Prepared]] = []
        for company in sorted(by_company, reverse=True):
            members = by_company[company]
            loads = [load_of(run, each.rows, self._settings.max_tokens) for run, each in members.items()]
            packed = self._policies.pack(loads, self._settings.fit.token_budget, company)
            cohorts += [[members[run] for run in cohort] for cohort in packed]
        return cohorts

    def _fit(self, tenant: str, basis: str, cohort: Sequence[Prepared]) -> None:
        held = [each for each in cohort if self._settling.holds(each.run)]
        if not held:
            return
        try:
            answer = self._ask("fit", tenant, basis, held)
        except Exception as error:  # noqa: BLE001 - around a run
            for each in held:
                self._settling.put_back(each.run, error)
            return
        # failpoint: fitted
        self._beats.passed([each.run.user for each in held], "fitted")
        self._observe(answer)
        self._look(basis, held)
        outcomes = [promised(each, self._promise) for each in answer.outcomes]
        self._settling.settle(*self._followed(tenant, basis, held, outcomes))

    def _look(self, basis: str, cohort: Sequence[Prepared]) -> None:
        try:
            self.expectations.look_before(basis)
        except Exception as error:  # noqa: BLE001 - around a run: it is judged by what was known
            logs.write_error("expectations", error, {"runs": len(cohort)})

    def _followed(
        self, tenant: str, basis: str, cohort: list[Prepared], outcomes: Sequence[Outcome]
    ) -> tuple[list[Prepared], list[Outcome]]:
        """Whoever changed since their version is fitted at once from what came since, if that serves it better.

        A refit rests on what was kept of a user who is no more: against it stands a fit of everything.
        """
        settled, found = list(cohort), list(outcomes)
        changed = [at for at, each in enumerate(cohort) if self._changed(each, outcomes[at])]
        wholly = {at: cohort[at].anew() for at in changed if cohort[at].statistics is not None}
        since = {at: each for at in changed if len((each := cohort[at].since_current()).learn) >= self._least}
        again = [*wholly.items(), *since.items()]
        if not again:
            return settled, found
        try:
            answer = self._ask("follow", tenant, basis, [each for _, each in again])
        except Exception as error:  # noqa: BLE001 - around a run: what was found before stands
            logs.write_error("follow", error, {"runs": len(changed)})
            return settled, found
        for (at, prepared), outcome in zip(again, answer.outcomes, strict=True):
            before = found[at]
            if not isinstance(before, MemberFitted) or not isinstance(outcome, MemberFitted):
                continue
            if prepared.since == cohort[at].since or self._judging.begins_anew(before, outcome):
                settled[at], found[at] = prepared, outcome
        return settled, found

    def _changed(self, prepared: Prepared, outcome: Outcome) -> bool:
        if not isinstance(outcome, MemberFitted) or self._promise is not None:
            return False  # of two vectors from the same examples both would count against the promise
        return not isinstance(self._judging.watch(prepared, outcome), Steady)

    def _ask(self, step: str, tenant: str, basis: str, cohort: Sequence[Prepared]) -> FitAnswer:
        with self._spans.step(step, [each.run for each in cohort], kind=Kind.CLIENT) as traces:
            members = tuple(_member(each, traces) for each in cohort)
            return self._trainer.fit(self._request(basis, members), partial(self._contents.read, tenant, basis))

    def _request(self, basis: str, members: tuple[Member, ...]) -> FitRequest:
        fit = self._settings.fit
        return FitRequest(
            basis=basis,
            members=members,
            steps=fit.steps,
            learning_rate=fit.learning_rate,
            optimizer=None if fit.optimizer == AUTO else fit.optimizer,
            precision=fit.precision,
            privacy=self._promise,
        )

    def _observe(self, answer: FitAnswer) -> None:
        self._metrics.cohort_users.observe(len(answer.outcomes))
        self._metrics.fit_duration.observe(answer.fit_s)
        self._metrics.fit_tokens.inc(answer.tokens)
        if answer.base_tokens_per_s:
            self._metrics.base_tokens.set(answer.base_tokens_per_s)
        seconds = round(answer.fit_s + answer.score_s, 3)
        logs.write("cohort_fitted", {"runs": len(answer.outcomes), "seconds": seconds})


def _member(prepared: Prepared, traces: Mapping[int, Trace]) -> Member:
    trace = traces.get(prepared.run.id)
    return prepared.to_member() if trace is None else replace(prepared.to_member(), trace=str(trace))


def promise_of(choices: FitChoices) -> Promise | None:
    """What a Trainer is to promise; None: nothing."""
    return None if choices.epsilon is None else Promise(choices.epsilon, choices.delta, choices.clip)


def promised(outcome: Outcome, wanted: Promise | None) -> Outcome:
    """The outcome, if it keeps what was wanted: a Trainer of an older release does not read what it does not know."""
    if wanted is None or isinstance(outcome, MemberFailed):
        return outcome
    if outcome.privacy is not None and outcome.privacy.promise == wanted and outcome.statistics is None:
        return outcome
    return MemberFailed(outcome.run, "without_privacy")
