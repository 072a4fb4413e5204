"""Texts in the making: one thread that has all crews of a replica take turns, a token of each at a time.

What waits when a turn ends begins together as a new crew. Whoever is told of a text may leave at any time; nothing
more is written for them.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import plora
from daemon.batching import QueueFull
from daemon.messages import WorkFailed
from daemon.predict_messages import Piece

Heard = Callable[[Piece | WorkFailed], None]


@dataclass(slots=True)
class Ticket:
    """One text that somebody waits for. `kept` is closed when it ends: what it needs until then."""

    engine: plora.Engine
    prompt: plora.Prompt = field(repr=False)
    heard: Heard = field(repr=False)
    kept: ExitStack = field(repr=False)
    cancelled: bool = False

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.cancelled = True


@dataclass(slots=True)
class _Writing:
    crew: plora.Crew
    tickets: dict[int, Ticket]


class Generating:
    """Writes texts, at most `most` at a time and `depth` more that wait. Thread-safe."""

    def __init__(self, most: int = 32, depth: int = 256) -> None:
        self._most, self._depth = most, depth
        self._waiting: deque[Ticket] = deque()
        self._writing: list[_Writing] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, ticket: Ticket) -> None:
        """Have the text written. Raises QueueFull, and then has closed what the ticket kept."""
        with self._changed:
            if len(self._waiting) >= self._depth:
                ticket.kept.close()
                raise QueueFull(len(self._waiting))
            self._waiting.append(ticket)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="generating", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._writing)
                room = self._most - sum(len(each.tickets) for each in self._writing)
                begun = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            self._begin(begun)
            for writing in list(self._writing):
                self._turn(writing)
            self._writing = [each for each in self._writing if each.tickets]

    def _begin(self, begun: list[Ticket]) -> None:
        """A crew for the tickets of each engine."""
        by_engine = defaultdict[int, list[Ticket]](list)
        for ticket in begun:
            by_engine[id(ticket.engine)].append(ticket)
        for tickets in by_engine.values():
            try:
                crew = plora.Crew(tickets[0].engine, [ticket.prompt for ticket in tickets])
            except Exception as error:  # noqa: BLE001 - one that does not belong here: the others must not bear it
                _fail_or_part(self._begin, tickets, error)
            else:
                self._writing.append(_Writing(crew, dict(enumerate(tickets))))

    def _turn(self, writing: _Writing) -> None:
        for row, ticket in list(writing.tickets.items()):
            if ticket.cancelled:
                writing.crew.drop(row)
                writing.tickets.pop(row).kept.close()
        try:
            told = writing.crew.step() if writing.tickets else []
        except Exception as error:  # noqa: BLE001 - around a request: its text may hold content and goes nowhere
            for ticket in writing.tickets.values():
                _fail(ticket, error)
            writing.tickets.clear()
            return
        for written in told:
            ticket = writing.tickets[written.row]
            if written.failed:
                _fail(writing.tickets.pop(written.row), FloatingPointError())
                continue
            if written.finish is not None:
                del writing.tickets[written.row]
                ticket.kept.close()
            prompt = len(ticket.prompt.ids)
            ticket.heard(Piece(written.text, written.finish, prompt, written.tokens))


def _fail_or_part(again: Callable[[list[Ticket]], None], tickets: list[Ticket], error: Exception) -> None:
    if len(tickets) == 1:
        _fail(tickets[0], error)
        return
    for ticket in tickets:
        again([ticket])


def _fail(ticket: Ticket, error: Exception) -> None:
    ticket.kept.close()
    ticket.heard(WorkFailed(type(error).__name__))
