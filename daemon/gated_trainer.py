"""A Trainer whose every answer passes the gate: what it made is looked at before the daemon keeps or serves it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from daemon import logs
from daemon.gatekeeper import Entering, Gatekeeper
from daemon.messages import (
    BasisProgress,
    BasisRequest,
    BasisTrained,
    FitAnswer,
    FitRequest,
    MemberFailed,
    MemberFitted,
)
from daemon.metrics import Metrics
from daemon.predict_messages import GenerateRequest, Piece, PredictAnswer, PredictRequest
from daemon.trainer_client import Contents, Shards, TrainerClient
from daemon.trainer_errors import TrainerFailed
from storage import Store

Outcome = MemberFitted | MemberFailed
PREFIX = "gate_"


class GatedTrainer:
    """Asks `trainer`; a refused adapter fails its own member alone, a refused Basis its training."""

    def __init__(
        self,
        trainer: TrainerClient,
        gatekeeper: Gatekeeper,
        store: Store,
        *,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._trainer, self._gatekeeper, self._store = trainer, gatekeeper, store
        self._metrics, self._now = metrics, now

    def ready(self) -> bool:
        return self._trainer.ready()

    def fit(self, request: FitRequest, basis: Callable[[], bytes]) -> FitAnswer:
        """Raises a TrainerError, or GateClosed."""
        answer = self._trainer.fit(request, basis)
        fitted = [each for each in answer.outcomes if isinstance(each, MemberFitted)]
        if not fitted:
            return answer
        self._show(request.basis, basis)
        entering = [(each.run, file) for each in fitted for file in _files(each, request.basis)]
        codes = self._gatekeeper.check([file for _, file in entering])
        refused: dict[int, str] = {}
        for (run, file), code in zip(entering, codes, strict=True):
            self._note(file.kind, code)
            if code is not None and run not in refused:
                refused[run] = self._refused(run, file.kind, code)
        outcomes = (_unless(refused, each) for each in answer.outcomes)
        return replace(answer, outcomes=tuple(outcomes))

    def train_basis(self, request: BasisRequest, population: Shards) -> BasisTrained:
        """Raises a TrainerError, or GateClosed."""
        made = self._trainer.train_basis(request, population)
        [code] = self._gatekeeper.check([Entering("basis", made.content, fingerprint=made.fingerprint)])
        self._note("basis", code)
        if code is not None:
            record = self._store.basis(int(request.basis))
            self._audit(None if record is None else record.tenant, "basis", request.basis, code)
            raise TrainerFailed(PREFIX + code)
        return made

    def progress(self, basis: str) -> BasisProgress | None:
        return self._trainer.progress(basis)

    def forget_population(self, basis: str) -> None:
        self._trainer.forget_population(basis)

    def predict(self, request: PredictRequest, basis: Callable[[], bytes], adapter: Contents) -> PredictAnswer:
        return self._trainer.predict(request, basis, adapter)

    def generate(self, request: GenerateRequest, basis: Callable[[], bytes], adapter: Contents) -> Iterator[Piece]:
        return self._trainer.generate(request, basis, adapter)

    def close(self) -> None:
        self._trainer.close()
        self._gatekeeper.close()

    def _show(self, fingerprint: str, basis: Callable[[], bytes]) -> None:
        """Have the gate know what adapters of this Basis are like."""
        if not self._gatekeeper.knows(fingerprint):
            [code] = self._gatekeeper.check([Entering("basis", basis(), fingerprint=fingerprint)])
            if code is not None:
                self._note("basis", code)
                raise TrainerFailed(PREFIX + code)

    def _refused(self, run: int, kind: str, code: str) -> str:
        found = self._store.run(run)
        self._audit(None if found is None else found.tenant, kind, str(run), code)
        return PREFIX + code

    def _audit(self, tenant: str | None, kind: str, object: str, code: str) -> None:
        logs.write("gate_refused", {"kind": kind, "code": code})
        self._store.record_audit(tenant, "gate", f"{kind}.refuse", object, code, self._now())

    def _note(self, kind: str, code: str | None) -> None:
        self._metrics.gate.labels(kind, code or "ok").inc()


def _unless(refused: Mapping[int, str], outcome: Outcome) -> Outcome:
    return MemberFailed(outcome.run, refused[outcome.run]) if outcome.run in refused else outcome


def _files(fitted: MemberFitted, basis: str) -> Sequence[Entering]:
    offers = [fitted.whole] if fitted.label_bias is None else [fitted.whole, fitted.label_bias]
    files = [Entering("adapter", offer.adapter, fitted.base, basis) for offer in offers]
    if fitted.statistics is not None:
        files.append(Entering("statistics", fitted.statistics, fitted.base, basis))
    return files
