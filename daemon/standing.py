"""What the gauges say of database, keys, disk and trainer: looked at for a scrape, but never for long.

Counting is quick until there are hundreds of thousands of users. From then on a scrape gets what was counted last, and
a thread counts again, so seldom that it takes a twentieth of its time. A database that does not answer is a gauge at
zero, not a page that is missing.
"""

import shutil
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from daemon import logs
from daemon.metric_table import EPOCH_STATES, SWITCHES
from daemon.metrics import Metrics
from storage import StorageError, Store

QUICK_S = 0.05
SHARE = 20
Clock = Callable[[], datetime]


class Standing:
    """Keeps the gauges of one daemon. Thread-safe."""

    def __init__(
        self, store: Store, metrics: Metrics, data_dir: Path, now: Clock, monotonic: Callable[[], float]
    ) -> None:
        self._store, self._metrics, self._data_dir = store, metrics, data_dir
        self._now, self._monotonic = now, monotonic
        self._took_s, self._next = 0.0, 0.0
        self._lock = threading.Lock()
        self._counting: threading.Thread | None = None

    def look(self) -> None:
        """Before a scrape: what costs nothing now, the counts now or soon."""
        self._metrics.keys_up.set(self._store.keys_problem() is None)
        self._metrics.exports_pending.set(self._store.unexported())
        self._metrics.disk_free.set(_free(self._data_dir))
        with self._lock:
            if self._counting is not None or self._monotonic() < self._next:
                return
            if self._took_s > QUICK_S:
                self._counting = threading.Thread(target=self._count, name="standing", daemon=True)
                self._counting.start()
                return
        self._count()

    def paused(self, off: frozenset[str]) -> None:
        """State which switches are off."""
        for name in SWITCHES:
            self._metrics.paused.labels(name).set(name in off)

    def _count(self) -> None:
        begun, metrics = self._monotonic(), self._metrics
        try:
            self._observe()
        except StorageError as error:
            metrics.storage_up.set(0)
            metrics.storage_errors.labels(type(error).__name__).inc()
        except Exception as error:  # noqa: BLE001 - around a scrape: the page shows what is known
            metrics.storage_up.set(0)
            logs.write_error("standing", error)
        took = self._monotonic() - begun
        with self._lock:
            self._took_s, self._counting = took, None
            self._next = self._monotonic() + (SHARE * took if took > QUICK_S else 0.0)

    def _observe(self) -> None:
        now, metrics = self._now(), self._metrics
        health, guarded = self._store.health(now), self._store.guarded()
        metrics.queue_depth.set(health.queue_depth)
        metrics.runs_in_progress.set(health.running)
        metrics.oldest_pending_event.set(_seconds(health.oldest_pending_event_at))
        metrics.current_adapters.set(health.current_adapters)
        metrics.users.set(health.users)
        metrics.database_bytes.set(health.database_bytes)
        metrics.dead_letters.set(health.dead_letters)
        for state in EPOCH_STATES:
            metrics.key_epochs.labels(state).set(guarded.epochs.get(state, 0))
        metrics.key_epoch_created.set(_seconds(guarded.primary_since))
        metrics.erasures_pending.set(guarded.erasures_pending)
        metrics.oldest_pending_erasure.set(_seconds(guarded.oldest_erasure_at))
        metrics.audit_entries.set(guarded.audit_entries)
        metrics.audit_checkpoint.set(_seconds(guarded.checkpoint_at))
        metrics.blobs_bytes.set(guarded.blobs_bytes)
        metrics.standing_at.set(now.timestamp())
        metrics.storage_up.set(1)


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
