"""A thread that hands users to the scheduler after their events are acknowledged.

The answer to a host must not wait for it, and twenty events of one user are one look. It is a short cut
only: what is dropped here when the process dies or the queue is full, the next tick finds in the rows.
"""

import threading
from collections.abc import Callable
from datetime import datetime

from daemon import logs

MOST_WAITING = 10_000
STOP_S = 2.0


class Considering:
    """Calls `consider(user, now)` once for all requests that came for a user meanwhile."""

    def __init__(self, consider: Callable[[str, datetime], object], now: Callable[[], datetime]) -> None:
        self._consider, self._now = consider, now
        self._waiting: dict[str, None] = {}
        self._changed = threading.Condition()
        self._busy = self._stopping = False
        self._thread = threading.Thread(target=self._work, name="considering", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """End after the user at hand, and do not wait longer than this."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def add(self, user: str) -> None:
        """Have `user` considered soon."""
        with self._changed:
            if len(self._waiting) < MOST_WAITING:
                self._waiting[user] = None
                self._changed.notify_all()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Whether everyone added so far was considered within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def _work(self) -> None:
        while (user := self._next()) is not None:
            try:
                self._consider(user, self._now())
            except Exception as error:  # noqa: BLE001 - the next user is not to blame, and the tick comes again
                logs.write_error("consider", error, {"user": user})

    def _next(self) -> str | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if self._stopping:
                return None
            user = next(iter(self._waiting))
            del self._waiting[user]
            self._busy = True
            return user
