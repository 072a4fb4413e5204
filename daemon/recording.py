"""From parsed events to rows: what the daemon answers for each event of a request."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from daemon import logs
from daemon.answer_token import WrongAnswerToken
from daemon.errors import EventRefused
from daemon.events import EventType, Message, check_label
from daemon.outcomes import Outcomes, Told
from daemon.telemetry import Kind, Span, begin, ending
from daemon.telemetry_context import Trace, current
from storage import EventIdReused, Recorded, Store, UserForgotten

Parsed = Message | EventRefused


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event. `user` is the internal id, None where nothing is left to consider."""

    status: int
    outcome: str
    code: str | None = None
    sentence: str | None = None
    user: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the sender is done with it."""
        return self.status < 300


FORGOTTEN = Outcome(202, "forgotten")
CONFLICT = 409
LET_IN = "this user was forgotten; a consent event with a later time lets them in again"
WRONG_ANSWER = Outcome(422, "rejected", "wrong_answer", str(WrongAnswerToken()))
COUNTED = {
    Told.STORED: Outcome(202, "stored"),
    Told.DUPLICATE: Outcome(202, "duplicate"),
    Told.NOBODYS: Outcome(202, "ignored"),
    Told.FORGOTTEN: Outcome(CONFLICT, "conflict", "user_forgotten", LET_IN),
}


@dataclass(frozen=True, slots=True)
class Recording:
    """For whom events are recorded, and what is asked of them."""

    store: Store
    tenant: str
    actor: str
    labels: Callable[[], frozenset[str] | None]
    default_consent: bool
    outcomes: Outcomes

    def record(self, parsed: Sequence[Parsed], now: datetime) -> list[Outcome]:
        """One Outcome for each of `parsed`, in order; what is stored is durable when this returns.

        Events between two forgets are one transaction; a forget is executed at its place in the order.
        """
        outcomes: list[Outcome] = []
        for stretch in _stretches(self._checked(parsed)):
            outcomes.extend(self._record_stretch(stretch, now))
        return outcomes

    def _checked(self, parsed: Sequence[Parsed]) -> list[Parsed]:
        labelled = any(isinstance(each, Message) and each.label is not None for each in parsed)
        labels = self.labels() if labelled else None
        return [_with_label_checked(each, labels) for each in parsed]

    def _record_stretch(self, stretch: Sequence[Parsed], now: datetime) -> list[Outcome]:
        messages = [each for each in stretch if isinstance(each, Message)]
        if messages and messages[0].type is EventType.FORGET:
            receipt = self.store.forget(self.tenant, messages[0].user, self.actor, now)
            if receipt is not None:
                logs.write("forgotten", {"user": receipt.user, "events": receipt.events, "caller": self.actor})
            return [FORGOTTEN]
        told = [each for each in messages if each.type is EventType.OUTCOME]
        taught = [each for each in messages if each.type is not EventType.OUTCOME]
        results = map(_outcome, self._store_all(taught, now) if taught else [])
        counts = iter(self._count(told, now) if told else [])
        # failpoint: ingest-after-commit
        return [
            _refused(each)
            if isinstance(each, EventRefused)
            else next(counts if each.type is EventType.OUTCOME else results)
            for each in stretch
        ]

    def _count(self, told: Sequence[Message], now: datetime) -> list[Outcome]:
        counted = self.outcomes.record(self.tenant, [(each.answer, each.value) for each in told], now)
        return [WRONG_ANSWER if isinstance(each, WrongAnswerToken) else COUNTED[each] for each in counted]

    def _store_all(self, messages: Sequence[Message], now: datetime) -> list[Recorded | EventIdReused | UserForgotten]:
        """Each in its own trace, or in the request's; a span for each of these traces."""
        spans = _spans(messages, self.store.dialect)
        events = [each.to_event(spans[each.trace].trace if each.trace in spans else None) for each in messages]
        with ExitStack() as ends:
            for span in spans.values():
                ends.enter_context(ending(span))
            return self.store.record_events(self.tenant, events, now, default_consent=self.default_consent)


def _spans(messages: Sequence[Message], database: str) -> dict[Trace | None, Span]:
    """By the events' own traces; None is the request's."""
    request, facts = current(), {"database": database, "operation": "record_events"}
    return {
        trace: begin(
            "record",
            parent,
            kind=Kind.CLIENT,
            facts={**facts, "events": count},
            link=request if trace is not None else None,
        )
        for trace, count in Counter(each.trace for each in messages).items()
        if (parent := trace or request) is not None
    }


def _stretches(parsed: Sequence[Parsed]) -> Iterator[list[Parsed]]:
    """Cut so that each forget stands alone."""
    stretch: list[Parsed] = []
    for each in parsed:
        if isinstance(each, Message) and each.type is EventType.FORGET:
            if stretch:
                yield stretch
            yield [each]
            stretch = []
        else:
            stretch.append(each)
    if stretch:
        yield stretch


def _with_label_checked(each: Parsed, labels: frozenset[str] | None) -> Parsed:
    try:
        if isinstance(each, Message):
            check_label(each, labels)
    except EventRefused as refused:
        return refused
    return each


def _refused(refused: EventRefused) -> Outcome:
    return Outcome(refused.status, "rejected", refused.code, refused.sentence)


def _outcome(result: Recorded | EventIdReused | UserForgotten) -> Outcome:
    if isinstance(result, Recorded):
        return Outcome(202, "duplicate" if result.duplicate else "stored", user=result.user)
    if isinstance(result, EventIdReused):
        sentence = "this source and id came before with other content; a new event needs a new id"
        return Outcome(CONFLICT, "conflict", "event_id_reused", sentence)
    return Outcome(CONFLICT, "conflict", "user_forgotten", LET_IN)
