"""Duties of erasure and audit that come with time: checkpoints, exports that failed, epochs that are to be rolled."""

from collections.abc import Callable
from datetime import datetime

from daemon import logs
from storage import KeyRingReadOnly, Store

LOOK_S = 5.0
PURGE_S = 30.0
COMPARE_S = 3_600.0


class Duties:
    """What the scheduler's thread does for the audit log and for the forgotten. Does nothing before it is due."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store, self._monotonic = store, monotonic
        self._next_look = self._next_purge = monotonic()
        self._next_compare = monotonic() + COMPARE_S  # opening the store compared

    def due(self) -> bool:
        """Whether to look again. Cheap."""
        return self._monotonic() >= self._next_look

    def look(self, now: datetime) -> None:
        """Sign the audit chain when a checkpoint is due, and export what could not be exported."""
        self._next_look = self._monotonic() + LOOK_S
        if self._store.audit_due(now):
            self._store.checkpoint_audit(now)
        if self._store.unexported():
            self._store.export_pending(now)
        if self._monotonic() >= self._next_purge:
            self._next_purge = self._monotonic() + PURGE_S
            self._store.forget_keys()

    def keep_up(self, now: datetime) -> None:
        """Roll the key epoch when an erasure is old enough, and look for erasures that a crash left unexported."""
        try:
            if self._store.roll_when_due(now):
                logs.write("epoch_rolled")
        except KeyRingReadOnly as owed:  # whoever keeps the Secret has to put a new epoch into it
            logs.write_error("roll_owed", owed)
        if self._monotonic() >= self._next_compare:
            self._next_compare = self._monotonic() + COMPARE_S
            self._store.export_keys(now)
            self._store.compare_exports()
        self._store.export_pending(now)

    def end(self, now: datetime) -> None:
        """Sign and export how far the audit chain has come, once nothing more is to be done."""
        self._store.checkpoint_audit(now)
