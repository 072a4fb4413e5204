"""The Bases of all tenants as the daemon uses them: their bytes at hand, and new ones trained."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

from daemon import logs
from daemon.events import examples_of
from daemon.facts import candidates_of, pause_s, seed_of
from daemon.leases import Leases
from daemon.messages import BasisRequest, Labelled
from daemon.metrics import Metrics
from daemon.settings import Settings
from daemon.trainer_client import TrainerClient, TrainerError, TrainerFailed
from policies import Policies
from policies.selection import Selection
from storage import BasisRecord, StaleEpoch, Store

CONTENTS_KEPT = 4
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class BasisContents:
    """The bytes of the Bases used last. A Basis never changes, so what was read once stays right."""

    def __init__(self, store: Store, keep: int = CONTENTS_KEPT) -> None:
        self._store, self._keep = store, keep
        self._contents: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, tenant: str, fingerprint: str) -> bytes:
        """Raises storage's UnknownBasis where `tenant` has no such Basis."""
        key = (tenant, fingerprint)
        with self._lock:
            if key in self._contents:
                self._contents.move_to_end(key)
                return self._contents[key]
        content = self._store.basis_content(fingerprint, tenant)
        with self._lock:
            self._contents[key] = content
            while len(self._contents) > self._keep:
                self._contents.popitem(last=False)
        return content


class BasisTraining:
    """Carries out a claimed Basis: its population's examples to the Trainer, and the result into the store."""

    def __init__(
        self,
        store: Store,
        policies: Policies,
        trainer: TrainerClient,
        settings: Settings,
        *,
        leases: Leases,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._policies, self._trainer, self._settings = store, policies, trainer, settings
        self._leases, self._metrics, self._now = leases, metrics, now

    def carry_out(self, record: BasisRecord) -> bool:
        """Whether the Basis became ready. Whatever goes wrong ends up in its row."""
        with self._leases.basis(record):
            try:
                return self._train(record)
            except StaleEpoch:
                self._metrics.fence_rejections.inc()
                logs.write("basis_dropped", {"basis": record.id, "epoch": record.epoch})
            except Exception as error:  # noqa: BLE001 - around a run
                self._put_back(record, error)
            return False

    def _train(self, record: BasisRecord) -> bool:
        bounds = self._settings.basis
        users = self._store.population(record.tenant, bounds.max_users)
        population = [examples for user in users if (examples := self._learn_of(user))]
        if len(population) < bounds.min_users:
            self._store.fail_basis(record.id, record.epoch, "too_few_users", self._now())
            logs.write("basis_failed", {"basis": record.id, "code": "too_few_users", "users": len(population)})
            return False
        request = BasisRequest(
            basis=str(record.id),
            epoch=record.epoch,
            population=tuple(population),
            dimensions=bounds.dim,
            rank=bounds.rank,
            epochs=bounds.epochs,
            learning_rate=bounds.learning_rate,
        )
        with self._metrics.basis_duration.time():
            made = self._trainer.train_basis(request)
        self._store.finish_basis(
            record.id, record.epoch, made.fingerprint, made.base, made.content, made.report, self._now()
        )
        logs.write("basis_ready", {"basis": record.id, "users": len(population), "bytes": len(made.content)})
        return True

    def _learn_of(self, user: str) -> tuple[Labelled, ...]:
        """A user's examples without those that will judge the user's own adapter: the Basis must not know them."""
        examples = examples_of(self._store.events(user))
        choice = self._policies.what(candidates_of(examples), self._settings.selection, seed_of(user))
        if isinstance(choice, Selection):
            learn = frozenset(choice.learn)
            examples = [each for each in examples if each.seq in learn]
        return tuple((each.text, each.label) for each in examples)

    def _put_back(self, record: BasisRecord, error: Exception) -> None:
        """Queue it again, or fail it if its own attempts are spent; an absent Trainer costs no attempt."""
        code = error.code if isinstance(error, TrainerError) else type(error).__name__
        ours = isinstance(error, TrainerFailed) or not isinstance(error, TrainerError)
        now = self._now()
        logs.write_error("basis_attempt", error, {"basis": record.id, "attempt": record.attempts, "code": code})
        try:
            if ours and record.attempts >= self._settings.max_attempts:
                self._store.fail_basis(record.id, record.epoch, code, now)
                return
            pause = pause_s(record.attempts, record.id, base_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
            self._store.retry_basis(record.id, record.epoch, now + timedelta(seconds=pause), code, now)
        except StaleEpoch:
            self._metrics.fence_rejections.inc()
