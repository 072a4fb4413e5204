"""How long the event loop was kept from its work: the longest pause between two of its ticks in the last minute."""

from collections import deque

from daemon.metrics import Metrics

TICK_S = 0.1
"""How often uvicorn ticks."""
WINDOW_S = 60.0


class Stalls:
    """Told of each tick; keeps those pauses that no later one exceeds."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last: float | None = None
        self._pauses: deque[tuple[float, float]] = deque()  # when, and how long; longest first

    def tick(self, at: float) -> None:
        """One tick, at a monotonic time."""
        pause = max(0.0, at - self._last - TICK_S) if self._last is not None else 0.0
        self._last = at
        while self._pauses and self._pauses[-1][1] <= pause:
            self._pauses.pop()
        self._pauses.append((at, pause))
        while self._pauses[0][0] < at - WINDOW_S:
            self._pauses.popleft()
        self._metrics.loop_stall.set(self._pauses[0][1])
