"""Group commit: what several threads want recorded at once goes into one transaction.

Whoever comes first records what has gathered, in one commit, while the others wait; who came meanwhile is recorded by
the first of them, next. Alone, nobody waits for anybody. What is wrong with one batch of a group is found by recording
each alone then, so that it fails nobody else's.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from storage.errors import BadRecord, EventIdReused, StorageError, StoreBusy, UnknownTenant, Unreadable, UserForgotten
from storage.records import NewEvent, Recorded

MOST_WAITING = 2_000
MOST_TOGETHER = 512
OWN_FAULT = (BadRecord, UnknownTenant, Unreadable, StoreBusy)
"""What may be of one batch alone, or of its meeting another: worth recording each by itself."""

Outcome = Recorded | EventIdReused | UserForgotten


@dataclass(frozen=True, slots=True)
class Batch:
    """What one caller wants recorded. Batches of the same tenant and default go together."""

    tenant: str
    default_consent: bool
    events: Sequence[NewEvent] = field(repr=False)
    now: datetime

    @property
    def kind(self) -> tuple[str, bool]:
        return self.tenant, self.default_consent


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    outcomes: list[Outcome] | None = None
    error: BaseException | None = None
    leads: bool = False

    @property
    def done(self) -> bool:
        return self.outcomes is not None or self.error is not None


class Grouping:
    """Thread-safe. `record` writes one batch in a transaction of its own."""

    def __init__(self, record: Callable[[Batch], list[Outcome]], name: str, most_waiting: int = MOST_WAITING) -> None:
        self._record, self._name, self._most_waiting = record, name, most_waiting
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._events = 0
        self._led = False

    @property
    def waiting(self) -> int:
        """How many batches wait for the transaction at hand to end."""
        with self._changed:
            return len(self._waiting)

    def add(self, batch: Batch) -> list[Outcome]:
        """The outcomes of `batch`, durable. Raises StoreBusy, recording nothing, when too many events wait already."""
        mine = _Waiting(batch)
        with self._changed:
            if self._waiting and self._events + len(batch.events) > self._most_waiting:
                raise StoreBusy(self._name)
            self._waiting.append(mine)
            self._events += len(batch.events)
            mine.leads, self._led = not self._led, True
            self._changed.wait_for(lambda: mine.done or mine.leads)
        if mine.leads:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.outcomes or []

    def _lead(self) -> None:
        """Record what has gathered, and leave the lead to the first who came meanwhile."""
        with self._changed:
            group = self._gathered()
        try:
            _settle(self._record, group)
        finally:
            with self._changed:
                if self._waiting:
                    self._waiting[0].leads = True
                else:
                    self._led = False
                self._changed.notify_all()

    def _gathered(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        count = len(group[0].batch.events)
        while self._waiting and self._waiting[0].batch.kind == group[0].batch.kind:
            if count + len(self._waiting[0].batch.events) > MOST_TOGETHER:
                break
            group.append(self._waiting.popleft())
            count += len(group[-1].batch.events)
        self._events -= count
        return group


def _settle(record: Callable[[Batch], list[Outcome]], group: Sequence[_Waiting]) -> None:
    first = group[0].batch
    events = [event for each in group for event in each.batch.events]
    try:
        outcomes = record(Batch(first.tenant, first.default_consent, events, max(each.batch.now for each in group)))
    except BaseException as error:  # noqa: BLE001 - every caller of the group gets it, or an answer of its own
        for each in group:
            each.error = error
            if len(group) > 1:
                _settle_again(record, each, error)
        return
    for each in group:
        each.outcomes, outcomes = outcomes[: len(each.batch.events)], outcomes[len(each.batch.events) :]


def _settle_again(record: Callable[[Batch], list[Outcome]], waiting: _Waiting, error: BaseException) -> None:
    """Alone, when that may help; else an error of its own, since one raised in two threads tells of both."""
    if isinstance(error, OWN_FAULT):
        waiting.error = None
        _settle(record, [waiting])
    elif isinstance(error, StorageError):
        waiting.error = type(error)(*error.args)
