"""Claimed runs carried out: events to examples, examples to a cohort, its outcomes to be settled."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby

from daemon import logs
from daemon.bases import BasisContents
from daemon.facts import load_of
from daemon.leases import Leases
from daemon.messages import FitAnswer, FitRequest
from daemon.metrics import Metrics
from daemon.prepared import Prepared, prepare
from daemon.settings import Settings
from daemon.settling import ABSENCES, Settling
from daemon.trainer_client import TrainerClient
from policies import Policies
from policies.selection import NotEnough
from storage import Material, Run, Store, Unreadable

AUTO = "auto"


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
        self._leases, self._contents, self._metrics = leases, contents, metrics
        self._settling = Settling(store, policies, settings, leases=leases, metrics=metrics, now=now)

    def carry_out(self, runs: Sequence[Run]) -> None:
        """Settle every run: succeeded, failed, cancelled, queued again, or dropped because its claim was lost."""
        with self._leases.runs(runs):
            ordered = sorted(runs, key=lambda run: (run.tenant, run.basis))
            for (tenant, basis), group in groupby(ordered, key=lambda run: (run.tenant, run.basis)):
                for cohort in self._pack(self._prepare(list(group))):
                    self._fit(tenant, basis, cohort)

    def _prepare(self, runs: Sequence[Run]) -> list[Prepared]:
        try:
            materials = self._store.materials([run.user for run in runs])
        except Exception as error:  # noqa: BLE001 - around a run
            for run in runs:
                self._settling.put_back(run, error)
            return []
        return [ready for run in runs if (ready := self._prepare_one(run, materials[run.user])) is not None]

    def _prepare_one(self, run: Run, material: Material | Unreadable) -> Prepared | None:
        try:
            if isinstance(material, Unreadable):
                raise material
            ready = prepare(run, material, self._policies, self._settings)
            if isinstance(ready, NotEnough):
                self._settling.cancel(run, ready.code)
                return None
            return ready
        except Exception as error:  # noqa: BLE001 - around a run
            self._settling.put_back(run, error)
            return None

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
        held = [each for each in cohort if self._settling.holds(each.run)]
        if not held:
            return
        try:
            answer = self._trainer.fit(self._request(basis, held), partial(self._contents.read, tenant, basis))
        except Exception as error:  # noqa: BLE001 - around a run
            for each in held:
                self._settling.put_back(each.run, error)
            return
        self._observe(answer)
        self._settling.settle(held, answer.outcomes)

    def _request(self, basis: str, cohort: Sequence[Prepared]) -> FitRequest:
        fit = self._settings.fit
        return FitRequest(
            basis=basis,
            members=tuple(each.to_member() for each in cohort),
            steps=fit.steps,
            learning_rate=fit.learning_rate,
            optimizer=None if fit.optimizer == AUTO else fit.optimizer,
            precision=fit.precision,
        )

    def _observe(self, answer: FitAnswer) -> None:
        self._metrics.cohort_users.observe(len(answer.outcomes))
        self._metrics.fit_duration.observe(answer.fit_s)
        seconds = round(answer.fit_s + answer.score_s, 3)
        logs.write("cohort_fitted", {"runs": len(answer.outcomes), "seconds": seconds})


def is_suspect(run: Run) -> bool:
    """Whether it is time to see if this run is what brings Trainers down: it failed twice for no outer reason."""
    return run.crashes >= 2 or (run.attempts >= 3 and run.error_code is not None and run.error_code not in ABSENCES)
