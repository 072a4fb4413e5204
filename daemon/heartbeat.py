"""A heartbeat through the whole pipeline: a user that is nobody's, whose event walks the path of everybody's.

Each beat records one event, which opens a run, which is claimed, fitted, judged, sealed and settled; each stage stamps
`plora_heartbeat_timestamp_seconds`. Whoever watches sees how old the youngest stamp of a stage is: when one goes stale,
nobody gets through there, however healthy the rest looks. Daemons share beats: an event is named by its time slot, so
the second one to record it is a duplicate. No population learns from this user, no list or count has it.
"""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from daemon import logs
from daemon.metrics import Metrics
from policies.trigger import Limits
from storage import EventKind, NewEvent, Recorded, Store

SOURCE, NAME = "plora:heartbeat", "plora heartbeat"
FIRST, KEPT = 8, 24
LIMITS = Limits(min_fresh=1, cooldown_s=0.0, max_runs_per_day=1_000_000)
"""A beat is worth a run by itself."""
STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class HeartbeatChoices:
    """How often a beat goes out; 0: never."""

    every_s: float = 300.0


class Beats:
    """Stamps stages, and knows which users are nobody's. Thread-safe: what it holds is replaced as a whole."""

    def __init__(self, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._metrics, self._now = metrics, now
        self._ours: frozenset[str] = frozenset()

    def know(self, users: Iterable[str]) -> None:
        """These are nobody's."""
        self._ours |= frozenset(users)

    def is_ours(self, user: str) -> bool:
        return user in self._ours

    def passed(self, users: Iterable[str], stage: str) -> None:
        """Stamp `stage` if one of `users` is nobody's."""
        if any(user in self._ours for user in users):
            self._metrics.heartbeat.labels(stage).set(self._now().timestamp())

    def failed(self, stage: str) -> None:
        self._metrics.heartbeat_failures.labels(stage).inc()


class Heartbeat:
    """Sends beats for one tenant from a thread of its own."""

    def __init__(
        self,
        store: Store,
        beats: Beats,
        every_s: float,
        tenant: str,
        *,
        labels: Callable[[str], frozenset[str] | None],
        consider: Callable[[str], object],
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._beats, self._every_s, self._tenant = store, beats, every_s, tenant
        self._labels, self._consider, self._now = labels, consider, now
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat, if that was asked for."""
        if self._every_s:
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def beat(self) -> bool:
        """Send one; False where it was not recorded, or the tenant has no Basis: then nobody gets an adapter."""
        now = self._now()
        self._beats.know(self._store.synthetic_users())
        tenant = self._store.tenant(self._tenant)
        if tenant is None or self._store.current_basis(tenant.id) is None:
            return False
        user = self._store.ensure_synthetic(tenant.id, NAME, now)
        self._beats.know([user])
        self._tell_of_last(user, now)
        labels = sorted(self._labels(tenant.id) or {"yes", "no"})
        outcomes = self._store.record_events(tenant.id, self._events(user, labels, now), now, default_consent=True)
        if not all(isinstance(each, Recorded) for each in outcomes):  # somebody else took its ids
            self._beats.failed("recorded")
            return False
        self._beats.passed([user], "recorded")
        self._consider(user)
        self._prune(user, now)
        return True

    def _events(self, user: str, labels: list[str], now: datetime) -> list[NewEvent]:
        slot = int(now.timestamp() // self._every_s)
        row = self._store.activity(user, now)
        count = FIRST if row is None or row.total < FIRST else 1
        return [
            NewEvent(SOURCE, f"{slot}-{number}", NAME, EventKind.EXAMPLE, _content(slot + number, labels), now)
            for number in range(count)
        ]

    def _tell_of_last(self, user: str, now: datetime) -> None:
        """A beat that is still on its way when the next one goes out has failed."""
        row = self._store.activity(user, now)
        if row is None or row.last_event_at is None:
            return
        if row.has_open_run:
            self._beats.failed("settled")
        elif row.fresh:
            self._beats.failed("opened")

    def _prune(self, user: str, now: datetime) -> None:
        """Keep the newest: a year of beats is worth no more than a day of them."""
        seqs = [each.seq for each in self._store.events(user)]
        if len(seqs) > 2 * KEPT:
            self._store.delete_events(user, seqs[:-KEPT], now)

    def _go_on(self) -> None:
        while not self._stopping.wait(self._every_s - self._now().timestamp() % self._every_s):
            try:
                self.beat()
            except Exception as error:  # noqa: BLE001 - the next beat comes, and this one is counted
                self._beats.failed("recorded")
                logs.write_error("heartbeat", error)


def _content(number: int, labels: list[str]) -> bytes:
    data = {"label": labels[number % len(labels)], "text": f"This is heartbeat {number}, and it says the same as ever."}
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
