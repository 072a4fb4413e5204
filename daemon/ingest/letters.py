"""From a broker's message, a Letter, to the JSON of one CloudEvent, as the CloudEvents bindings of each broker say.

Only the envelope is read here, and strictly: what an event says is for the daemon to judge. A Letter without any
attribute in its headers is the whole event as JSON (structured mode), whatever content type it names.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from daemon.cloudevents import read_json, unescape
from daemon.errors import MalformedEvent, UnsupportedMediaType
from daemon.events import BATCH

CONTENT_TYPE = "content-type"
TRACEPARENT = "traceparent"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of a broker. Names of headers are in lower case; `origin` says where it lay."""

    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False, default=())
    origin: str = ""


class Batch(Protocol):
    """Letters that were taken together and are not yet acknowledged. All but `letters` raise BrokerAway."""

    @property
    def letters(self) -> Sequence[Letter]: ...

    async def keep(self) -> None:
        """Tell the broker that they are still worked on."""

    async def bury(self, at: int, code: str) -> None:
        """Put a copy of the Letter at this place where dead letters lie; it is durable when this returns.

        Raises PlaceMissing where there is no such place.
        """

    async def settle(self) -> None:
        """Acknowledge all of them."""

    async def release(self) -> None:
        """Give them back, so that they come again."""


Take = Callable[[Batch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Binding:
    """How a broker's messages carry attributes: under which prefix, and how their values are read."""

    prefix: str
    read: Callable[[str], str]


KAFKA = Binding("ce_", str)
NATS = Binding("ce-", unescape)  # as in HTTP
REDIS = Binding("ce-", str)
BINDINGS = {"kafka": KAFKA, "nats": NATS, "redis": REDIS}


def event_of(letter: Letter, binding: Binding) -> bytes:
    """The JSON of the letter's event. Raises EventRefused."""
    attributes = _attributes(letter, binding)
    trace = next((value for name, value in letter.headers if name == TRACEPARENT), "")
    if attributes:
        if letter.body:
            attributes["data"] = read_json(letter.body)
        return _dumps(_traced(attributes, trace))
    if any(name == CONTENT_TYPE and value.lower().startswith(BATCH) for name, value in letter.headers):
        raise UnsupportedMediaType("unsupported_media_type", "a message holds one event, not a batch")
    event = read_json(letter.body)
    if not isinstance(event, dict):
        raise MalformedEvent("not_an_object", "an event must be a JSON object")
    traced = _traced(event, trace)
    return letter.body if traced is event else _dumps(traced)


def _attributes(letter: Letter, binding: Binding) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in letter.headers:
        attribute = name.removeprefix(binding.prefix)
        if attribute == name:
            continue
        if attribute in found:
            raise MalformedEvent("duplicate_attribute", "an attribute is sent twice")
        if attribute in {"data", "data_base64"}:
            raise MalformedEvent("wrong_attribute_name", "data is the body of the message")
        found[attribute] = binding.read(value)
    if found:
        kind = next((value for name, value in letter.headers if name == CONTENT_TYPE), None)
        found |= {"datacontenttype": kind} if kind else {}
    return found


def _traced(event: Mapping[str, object], trace: str) -> Mapping[str, object]:
    """The message's own trace context goes along where the event has none."""
    if TRACEPARENT in event or _TRACEPARENT.fullmatch(trace) is None:
        return event
    return {**event, TRACEPARENT: trace}


def _dumps(event: Mapping[str, object]) -> bytes:
    return json.dumps(event).encode()
