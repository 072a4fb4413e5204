"""The Store, counting what it seals and unseals. Storage itself knows no metrics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from daemon.metrics import Metrics
from storage import (
    AdapterVersion,
    BasisRecord,
    BlobScrub,
    Event,
    EventIdReused,
    Finished,
    FinishedRun,
    Material,
    NewEvent,
    Recorded,
    Store,
    StoredAdapter,
    Unreadable,
    UserForgotten,
)


class CountedStore(Store):
    """Give it `metrics` right after `open`."""

    metrics: Metrics

    def record_events(
        self, tenant: str, events: Sequence[NewEvent], now: datetime, *, default_consent: bool = False
    ) -> list[Recorded | EventIdReused | UserForgotten]:
        outcomes = super().record_events(tenant, events, now, default_consent=default_consent)
        fresh = sum(isinstance(each, Recorded) and not each.duplicate for each in outcomes)
        self.metrics.seal.labels("event", "ok").inc(fresh)
        return outcomes

    def events(self, user: str) -> list[Event]:
        with self._unsealing("event"):
            events = super().events(user)
        self.metrics.unseal.labels("event", "ok").inc(len(events))
        return events

    def finish_run(self, run: int, epoch: int, outcome: FinishedRun, now: datetime) -> AdapterVersion:
        version = super().finish_run(run, epoch, outcome, now)
        self.metrics.seal.labels("adapter", "ok").inc()
        return version

    def finish_runs(self, outcomes: Sequence[tuple[int, int, FinishedRun]], now: datetime) -> list[Finished]:
        answers = super().finish_runs(outcomes, now)
        written = [
            made for (_, _, made), answer in zip(outcomes, answers, strict=True) if isinstance(answer, AdapterVersion)
        ]
        self.metrics.seal.labels("adapter", "ok").inc(len(written))
        self.metrics.seal.labels("statistics", "ok").inc(sum(made.statistics is not None for made in written))
        return answers

    def materials(self, whom: Sequence[str]) -> dict[str, Material | Unreadable]:
        materials = super().materials(whom)
        opened = [each for each in materials.values() if isinstance(each, Material)]
        self.metrics.unseal.labels("event", "ok").inc(sum(len(each.events) for each in opened))
        self.metrics.unseal.labels("adapter", "ok").inc(sum(each.current is not None for each in opened))
        self.metrics.unseal.labels("statistics", "ok").inc(sum(each.statistics is not None for each in opened))
        self.metrics.unseal.labels("material", "unreadable").inc(len(materials) - len(opened))
        return materials

    def current_adapter(self, user: str) -> StoredAdapter | None:
        with self._unsealing("adapter"):
            return self._counted(super().current_adapter(user))

    def adapter(self, user: str, version: int) -> StoredAdapter | None:
        with self._unsealing("adapter"):
            return self._counted(super().adapter(user, version))

    def finish_basis(  # noqa: PLR0917 - the store's own signature
        self, basis: int, epoch: int, fingerprint: str, base: str, content: bytes, report: str, now: datetime
    ) -> BasisRecord:
        record = super().finish_basis(basis, epoch, fingerprint, base, content, report, now)
        self.metrics.seal.labels("basis", "ok").inc()
        return record

    def basis_content(self, fingerprint: str, tenant: str) -> bytes:
        with self._unsealing("basis"):
            content = super().basis_content(fingerprint, tenant)
        self.metrics.unseal.labels("basis", "ok").inc()
        return content

    def scrub_blobs(self, now: datetime, share: float = 0.01) -> BlobScrub:
        found = super().scrub_blobs(now, share)
        self.metrics.lost.labels("basis").inc(len(found.lost_bases))
        self.metrics.lost.labels("adapter").inc(len(found.lost_adapters))
        return found

    def mend_basis(self, fingerprint: str, tenant: str, now: datetime) -> bool:
        lost = super().mend_basis(fingerprint, tenant, now)
        self.metrics.lost.labels("basis").inc(lost)
        return lost

    def mend_adapter(self, user: str, now: datetime) -> bool:
        lost = super().mend_adapter(user, now)
        self.metrics.lost.labels("adapter").inc(lost)
        return lost

    def _counted(self, found: StoredAdapter | None) -> StoredAdapter | None:
        self.metrics.unseal.labels("adapter", "ok").inc(found is not None)
        return found

    @contextmanager
    def _unsealing(self, kind: str) -> Iterator[None]:
        try:
            yield
        except Unreadable:
            self.metrics.unseal.labels(kind, "unreadable").inc()
            raise
