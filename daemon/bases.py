"""The Bases of all tenants as the daemon uses them: their bytes at hand, and new ones trained."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice

from daemon import clock, logs
from daemon.basis_watch import BasisWatch
from daemon.facts import tries_of
from daemon.failures import SPENT, code_of, failure_of
from daemon.leases import Leases
from daemon.messages import BasisProgress, BasisRequest, Labelled
from daemon.metrics import Metrics
from daemon.settings import Settings
from daemon.shards import Shard, cut
from daemon.taught import Lesson, before, taught_by, with_lesson
from daemon.trainer_client import TrainerClient
from daemon.trainer_errors import TrainerError, TrainerLost
from policies import Policies
from policies.attempts import Dead, Failure
from storage import BasisRecord, StaleEpoch, Store, Unreadable

CONTENTS_KEPT = 4


class BasisContents:
    """The bytes of the Bases used last. A Basis never changes, so what was read once stays right."""

    def __init__(self, store: Store, keep: int = CONTENTS_KEPT, now: Callable[[], datetime] = clock.now) -> None:
        self._store, self._keep, self._now = store, keep, now
        self._contents: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, tenant: str, fingerprint: str) -> bytes:
        """Raises storage's UnknownBasis where `tenant` has no such Basis, Unreadable where it was lost just now."""
        key = (tenant, fingerprint)
        with self._lock:
            if key in self._contents:
                self._contents.move_to_end(key)
                return self._contents[key]
        try:
            content = self._store.basis_content(fingerprint, tenant)
        except Unreadable:
            self._store.mend_basis(fingerprint, tenant, self._now())
            raise
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
        self._watch = BasisWatch(trainer.progress, metrics, settings.tick_s)

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

    def progress(self, basis: int) -> BasisProgress | None:
        """How far a Basis in training has come, as last heard of."""
        return self._watch.heard.get(basis)

    def _train(self, record: BasisRecord) -> bool:
        bounds = self._settings.basis
        users = self._store.population(record.tenant, bounds.max_users)
        users.sort(key=lambda user: hashlib.sha256(f"{record.id}:{user}".encode()).digest())  # large among small ones
        found = len(list(islice(self._examples(users, record), bounds.min_users)))
        if found < bounds.min_users:
            self._store.fail_basis(record.id, record.epoch, "too_few_users", self._now())
            logs.write("basis_failed", {"basis": record.id, "code": "too_few_users", "users": found})
            return False

        def shards() -> Iterator[Shard]:
            return cut(self._examples(users, record), bounds.shard_bytes)

        with self._metrics.basis_duration.time(), self._watch.over(record.id):
            made = self._trainer.train_basis(self._request(record), shards)
        report = with_lesson(made.report, self._lesson(record, users))
        self._store.finish_basis(
            record.id, record.epoch, made.fingerprint, made.base, made.content, report, self._now()
        )
        learned = json.loads(made.report).get("users")
        logs.write("basis_ready", {"basis": record.id, "users": learned, "bytes": len(made.content)})
        return True

    def _request(self, record: BasisRecord) -> BasisRequest:
        bounds = self._settings.basis
        return BasisRequest(
            basis=str(record.id),
            epoch=record.epoch,
            dimensions=bounds.dim,
            rank=bounds.rank,
            epochs=bounds.epochs,
            learning_rate=bounds.learning_rate,
            accumulate=bounds.accumulate,
            patience=bounds.patience,
            held_out=bounds.held_out,
            window=bounds.window,
            link=bounds.link,
        )

    def _examples(self, users: Iterable[str], record: BasisRecord) -> Iterator[tuple[Labelled, ...]]:
        """What each user teaches, read one by one; who teaches nothing is left out."""
        for user in users:
            if examples := self._learn_of(user, record.created_at):
                yield examples

    def _learn_of(self, user: str, until: datetime) -> tuple[Labelled, ...]:
        """A user's examples without those that will judge the user's own adapter: the Basis must not know them.

        What came after the Basis was asked for is left out, so that another attempt finds the same population.
        """
        lesson = Lesson(until, self._settings.selection)
        learn = taught_by(user, self._store.events(user), lesson, self._policies.divide)
        return tuple((each.text, each.label) for each in learn)

    def _lesson(self, record: BasisRecord, users: Sequence[str]) -> Lesson:
        """What taught the Basis. Where not all fitted in, whoever has fewer events than all of `users` did not."""
        least = 1
        if len(users) >= self._settings.basis.max_users:
            least = min(before(self._store.events(user), record.created_at) for user in users)
        return Lesson(record.created_at, self._settings.selection, max(1, least))

    def _put_back(self, record: BasisRecord, error: Exception) -> None:
        """Queue it again or fail it, as policy has it for runs; but a Trainer lost in hours of work costs nothing."""
        code, now = code_of(error), self._now()
        failure = Failure.ABSENCE if isinstance(error, TrainerLost) else failure_of(error)
        decision = self._policies.after(failure, tries_of(record), self._settings.attempts, now)
        logs.write_error("basis_attempt", error, {"basis": record.id, "attempt": record.attempts, "code": code})
        try:
            if isinstance(decision, Dead):
                self._store.fail_basis(record.id, record.epoch, code, now)
                with suppress(TrainerError):
                    self._trainer.forget_population(str(record.id))
                return
            self._store.retry_basis(record.id, record.epoch, decision.at, code, now, spent=SPENT[failure])
        except StaleEpoch:
            self._metrics.fence_rejections.inc()
