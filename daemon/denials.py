"""Denied requests in the audit log: the first of a caller at once, then how many more there were, once a minute.

A flood must not write a row for each call, so what is kept is a count for each (tenant, caller, reason), of which there
are few: those without a known token share one. Counts not yet written are lost when the process is killed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon import logs
from storage import StorageError, Store

PERIOD = timedelta(minutes=1)
MOST_KEPT = 200
NOBODY = "nobody"
ACTION = "request.denied"


@dataclass(frozen=True, slots=True)
class Denied:
    """Whose request was denied, and by what code. Nobody's tenant is empty."""

    tenant: str
    caller: str
    code: str


OTHERS = Denied("", "others", "denied")


@dataclass(slots=True)
class _Count:
    since: datetime
    unwritten: int = 0


class Denials:
    """Counts and writes. Thread-safe."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._counts: dict[Denied, _Count] = {}
        self._lock = threading.Lock()

    def add(self, denied: Denied) -> None:
        """Count one, and write what is due."""
        now = self._now()
        with self._lock:
            if denied not in self._counts and len(self._counts) >= MOST_KEPT:
                denied = OTHERS
            count = self._counts.get(denied)
            if count is None:
                self._counts[denied] = _Count(now)
                due = {denied: 1}
            else:
                count.unwritten += 1
                due = {}
            due |= self._due(now)
        self._write(due, now)

    def flush(self) -> None:
        """Write every count, at the end."""
        now = self._now()
        with self._lock:
            due = {denied: count.unwritten for denied, count in self._counts.items() if count.unwritten}
            self._counts.clear()
        self._write(due, now)

    def _due(self, now: datetime) -> dict[Denied, int]:
        """The counts whose minute is over; the lock is held."""
        over = [denied for denied, count in self._counts.items() if now - count.since >= PERIOD]
        due = {}
        for denied in over:
            if unwritten := self._counts[denied].unwritten:
                due[denied] = unwritten
                self._counts[denied] = _Count(now)
            else:
                del self._counts[denied]
        return due

    def _write(self, due: dict[Denied, int], now: datetime) -> None:
        for denied, count in due.items():
            try:
                self._store.note(denied.tenant, denied.caller, ACTION, f"{denied.code} {count}", now)
            except StorageError as error:  # the answer is the same: it was denied
                logs.write_error("denial_unwritten", error, {"caller": denied.caller, "count": count})
