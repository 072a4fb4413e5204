"""Finished spans on their way to a collector: a bounded queue, and one thread that empties it.

Whoever ends a span waits for nobody. While the collector is away the queue fills, and then spans are dropped and
counted; nothing else of the daemon notices.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from daemon import logs

BATCH = 512
BATCH_S = 0.5
"""How long one may wait for others to be sent with."""

Count = Callable[[str, int], None]
"""Told how many spans were "sent", "failed" or "dropped"."""
T = TypeVar("T")


class Outbox(Generic[T]):
    """Sends what it is given in batches. `send` says whether they were taken; `abandon` makes it give up at once."""

    def __init__(
        self, send: Callable[[Sequence[T]], bool], *, most: int, count: Count, abandon: Callable[[], None]
    ) -> None:
        self._send, self._most, self._count, self._abandon = send, most, count, abandon
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopping, self._away = False, False
        self._thread = threading.Thread(target=self._work, name="telemetry", daemon=True)
        self._thread.start()

    def add(self, span: T) -> None:
        """Never waits."""
        with self._changed:
            has_room = len(self._waiting) < self._most and not self._stopping
            if has_room:
                self._waiting.append(span)
                if len(self._waiting) in {1, BATCH}:
                    self._changed.notify()
        if not has_room:
            self._count("dropped", 1)

    def stop(self, timeout_s: float) -> None:
        """Send what waits, for at most this long; what is left is dropped."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
        self._count("dropped", left)
        self._abandon()

    def _work(self) -> None:
        while batch := self._next():
            taken = self._try(batch)
            self._count("sent" if taken else "failed", len(batch))
            if taken is self._away:
                self._away = not taken
                level = logging.WARNING if self._away else logging.INFO
                logs.write("telemetry", {"state": "away" if self._away else "sent"}, level=level)

    def _try(self, batch: Sequence[T]) -> bool:
        try:
            return self._send(batch)
        except Exception as error:  # noqa: BLE001 - behind everything: only spans are lost
            logs.write_error("telemetry", error)
            return False

    def _next(self) -> list[T]:
        """Empty once it is stopped and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            self._changed.wait_for(lambda: len(self._waiting) >= BATCH or self._stopping, BATCH_S)
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
