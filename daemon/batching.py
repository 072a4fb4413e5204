"""Dynamic batching: whatever waits when the model is free goes through it together.

Nobody waits for company: a request that finds the model idle is taken at once, and those that come while it works are
the next batch. What waits is bounded; more is refused, so that a caller hears so at once.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from daemon.errors import DaemonError

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(DaemonError):
    """As much waits for the model as may."""

    def __init__(self, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting

    def __str__(self) -> str:
        return f"{self.waiting} rows wait already: ask again later"


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item = field(repr=False)
    weight: int
    future: Future[Result]


class Batcher(Generic[Item, Result]):
    """One thread that does `act` for as many items as wait, at most `most` of their weights together.

    `act` gives one result for each item, in order; an exception among them is that item's own.
    """

    def __init__(
        self,
        act: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        weigh: Callable[[Item], int] = lambda _: 1,
        most: int = 64,
        depth: int = 1_024,
        name: str = "batcher",
    ) -> None:
        self._act, self._weigh, self._most, self._depth = act, weigh, most, depth
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._weight = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Result]:
        """What will become of `item`. Raises QueueFull."""
        waiting = _Waiting(item, self._weigh(item), Future[Result]())
        with self._changed:
            if self._closed or (self._waiting and self._weight + waiting.weight > self._depth):
                raise QueueFull(self._weight)
            self._waiting.append(waiting)
            self._weight += waiting.weight
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Refuse what comes; what waits is still done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            live = [each for each in batch if each.future.set_running_or_notify_cancel()]
            if not live:
                continue
            try:
                results = self._act([each.item for each in live])
            except Exception as error:  # noqa: BLE001 - everybody in the batch hears of it
                results = [error] * len(live)
            for each, result in zip(live, results, strict=True):
                if isinstance(result, Exception):
                    each.future.set_exception(result)
                else:
                    each.future.set_result(result)

    def _next(self) -> list[_Waiting[Item, Result]]:
        """Everything that waits and fits; empty once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch: list[_Waiting[Item, Result]] = []
            weight = 0
            while self._waiting and (not batch or weight + self._waiting[0].weight <= self._most):
                batch.append(self._waiting.popleft())
                weight += batch[-1].weight
            self._weight -= weight
            return batch
