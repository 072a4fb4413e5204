"""What hosts send: CloudEvents of five types to the Events that are stored, and Events to Examples.

A refusal never repeats what was sent. The stored content is canonical JSON of the data alone, so that
one event sent twice in different modes or spellings is one event.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from daemon.cloudevents import Envelope, is_plain, media_type, read_binary, read_json, read_structured
from daemon.errors import EventRefused, EventTooLarge, MalformedEvent, UnacceptableEvent, UnsupportedMediaType
from daemon.telemetry_context import Trace
from storage import Event, EventKind, NewEvent

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
TEXT_BYTES = 32_768
USER_CHARS = 256


class EventType(Enum):
    """The CloudEvents `type`s that the daemon knows."""

    EXAMPLE = "plora.example.v1"
    CORRECTION = "plora.correction.v1"
    CONSENT = "plora.consent.v1"
    FORGET = "plora.forget.v1"
    OUTCOME = "plora.outcome.v1"


KINDS = {
    EventType.EXAMPLE: EventKind.EXAMPLE,
    EventType.CORRECTION: EventKind.CORRECTION,
    EventType.CONSENT: EventKind.CONSENT,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is read."""

    event_bytes: int = 65_536
    batch_bytes: int = 1_048_576
    batch_events: int = 500


@dataclass(frozen=True, slots=True)
class Message:
    """One acceptable event, not yet stored. `content` is empty for a forget, and `user` for an outcome."""

    type: EventType
    source: str
    id: str
    user: str = field(repr=False)
    time: datetime | None
    content: bytes = field(repr=False)
    label: str | None = field(repr=False, default=None)
    granted: bool | None = None
    trace: Trace | None = None  # the event's own, not the request's
    answer: str = field(repr=False, default="")
    value: float = 0.0

    def to_event(self, trace: Trace | None = None) -> NewEvent:
        """What the store records, in `trace`. A forget is executed and an outcome counted, never recorded."""
        return NewEvent(
            source=self.source,
            id=self.id,
            user=self.user,
            kind=KINDS[self.type],
            content=self.content,
            time=self.time,
            consent=self.granted,
            trace=None if trace is None else str(trace),
        )


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """One thing to learn from; `seq` and `at` are those of the event that said so last."""

    seq: int
    at: datetime
    text: str = field(repr=False)
    label: str = field(repr=False)


def body_limit(content_type: str, bounds: Bounds) -> int:
    """How many bytes of a body with this Content-Type are read."""
    return bounds.batch_bytes if media_type(content_type) == BATCH else bounds.event_bytes


def read(headers: Sequence[tuple[str, str]], body: bytes, bounds: Bounds) -> list[Message | EventRefused]:
    """Every event of one request, in order; in a batch each is accepted or refused alone.

    Raises EventRefused when the request as a whole cannot be read, or when its only event is refused.
    """
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    kind = media_type(content_type)
    if kind == BATCH:
        return _read_batch(body, bounds)
    if len(body) > bounds.event_bytes:
        raise _too_large(bounds)
    if kind == STRUCTURED:
        return [_message(read_structured(read_json(body)))]
    if kind.startswith("application/cloudevents") or not any(name.lower().startswith("ce-") for name, _ in headers):
        raise UnsupportedMediaType(
            "unsupported_media_type", f"send {STRUCTURED}, {BATCH}, or application/json with ce- headers"
        )
    if kind not in {"application/json", ""}:  # SDKs leave it out when the event says no datacontenttype
        raise UnsupportedMediaType("unsupported_media_type", "the data of an event must be application/json")
    return [_message(read_binary(headers, body))]


def is_batch(content_type: str) -> bool:
    """Whether the answer is a list too."""
    return media_type(content_type) == BATCH


def check_label(message: Message, labels: frozenset[str] | None) -> None:
    """Raise UnacceptableEvent when the tenant's Basis knows a closed set of labels and this is none of them."""
    if labels is not None and message.label is not None and message.label not in labels:
        raise UnacceptableEvent("unknown_label", f"the label is none of the {len(labels)} that the basis knows")


def check_user(user: str) -> str:
    """`user` itself. Raises MalformedEvent unless it is 1 to 256 characters, no slash, no controls."""
    if not 1 <= len(user) <= USER_CHARS or "/" in user or not is_plain(user):
        raise MalformedEvent("wrong_user", f"a user id is 1 to {USER_CHARS} characters without slash or controls")
    return user


def examples_of(events: Iterable[Event]) -> list[LabelledExample]:
    """What `events` teach, oldest first: a correction replaces every earlier example of the same text."""
    examples: dict[int, LabelledExample] = {}
    by_text: dict[str, list[int]] = {}
    for event in sorted(events, key=lambda each: each.seq):
        if event.kind is EventKind.CONSENT:
            continue
        data = json.loads(event.content)
        example = LabelledExample(event.seq, event.time or event.received_at, data["text"], data["label"])
        if event.kind is EventKind.CORRECTION:
            for seq in by_text.pop(example.text, []):
                del examples[seq]
        examples[event.seq] = example
        by_text.setdefault(example.text, []).append(event.seq)
    return list(examples.values())


def _read_batch(body: bytes, bounds: Bounds) -> list[Message | EventRefused]:
    values = read_json(body)
    if not isinstance(values, list):
        raise MalformedEvent("not_a_list", "a batch must be a JSON array of events")
    if len(values) > bounds.batch_events:
        raise EventTooLarge("batch_too_large", f"a batch has at most {bounds.batch_events} events")
    return [_read_member(value, bounds) for value in values]


def _read_member(value: object, bounds: Bounds) -> Message | EventRefused:
    try:
        if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) > bounds.event_bytes:
            raise _too_large(bounds)
        return _message(read_structured(value))
    except EventRefused as refused:
        return refused


def _message(envelope: Envelope) -> Message:
    try:
        kind = EventType(envelope.type)
    except ValueError:
        known = ", ".join(each.value for each in EventType)
        raise UnacceptableEvent("unknown_event_type", f"the attribute type must be one of {known}") from None
    if kind is EventType.OUTCOME:
        return _outcome(envelope)
    if envelope.subject is None:
        raise MalformedEvent("missing_attribute", "the attribute subject, the user's id, is missing")
    user = check_user(envelope.subject)
    data = _data(envelope, READERS[kind])
    label, granted = data.get("label"), data.get("granted")
    return Message(
        type=kind,
        source=envelope.source,
        id=envelope.id,
        user=user,
        time=envelope.time,
        content=_canonical(data),
        label=label if isinstance(label, str) else None,
        granted=granted if isinstance(granted, bool) else None,
        trace=envelope.trace,
    )


# What the data of each type holds, and nothing else: content that nobody reads is content kept for nothing.
READERS: Mapping[EventType, Mapping[str, type]] = {
    EventType.EXAMPLE: {"text": str, "label": str},
    EventType.CORRECTION: {"text": str, "label": str},
    EventType.CONSENT: {"granted": bool},
    EventType.FORGET: {},
}


def _outcome(envelope: Envelope) -> Message:
    """The answer's token says whose it was: a subject is not read."""
    data = envelope.data
    if not isinstance(data, dict):
        raise UnacceptableEvent("wrong_data", "data must be a JSON object with answer and value")
    if set(data) - {"answer", "value"}:
        raise UnacceptableEvent("unexpected_field", "data has fields other than answer and value")
    for name in ("answer", "value"):
        if name not in data:
            raise UnacceptableEvent("missing_field", f"data.{name} is missing")
    answer, value = data["answer"], data["value"]
    if not isinstance(answer, str) or not answer:
        raise UnacceptableEvent("wrong_field", "data.answer must be the `answer` of a prediction, as it came")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UnacceptableEvent("wrong_field", "data.value must be a number from 0 to 1")
    return Message(
        type=EventType.OUTCOME,
        source=envelope.source,
        id=envelope.id,
        user="",
        time=envelope.time,
        content=b"",
        trace=envelope.trace,
        answer=answer,
        value=float(value),
    )


def _data(envelope: Envelope, fields: Mapping[str, type]) -> dict[str, str | bool]:
    data = {} if envelope.data is None and not fields else envelope.data
    if not isinstance(data, dict):
        raise UnacceptableEvent("wrong_data", f"data must be a JSON object with {_listed(fields)}")
    if set(data) - set(fields):
        raise UnacceptableEvent("unexpected_field", f"data has fields other than {_listed(fields)}")
    return {name: _field(data, name, kind) for name, kind in fields.items()}


def _field(data: Mapping[str, object], name: str, kind: type) -> str | bool:
    if name not in data:
        raise UnacceptableEvent("missing_field", f"data.{name} is missing")
    value = data[name]
    if isinstance(value, bool) and kind is bool:
        return value
    if not isinstance(value, str) or kind is not str:
        raise UnacceptableEvent("wrong_field", f"data.{name} must be a {'string' if kind is str else 'boolean'}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise UnacceptableEvent("wrong_field", f"data.{name} must be text: it holds half a character") from None
    if size > TEXT_BYTES:
        raise UnacceptableEvent("field_too_long", f"data.{name} may take {TEXT_BYTES} bytes in UTF-8")
    if name == "label" and not value:
        raise UnacceptableEvent("wrong_field", "data.label must not be empty")
    return value


def teaching(text: str, label: str) -> bytes:
    """The content of an example or a correction. Raises UnacceptableEvent."""
    data = {"text": text, "label": label}
    return _canonical({name: _field(data, name, str) for name in data})


def _listed(fields: Mapping[str, type]) -> str:
    return " and ".join(fields) or "nothing"


def _canonical(data: Mapping[str, str | bool]) -> bytes:
    return json.dumps(data, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() if data else b""


def _too_large(bounds: Bounds) -> EventTooLarge:
    return EventTooLarge("event_too_large", f"an event may take {bounds.event_bytes} bytes")
