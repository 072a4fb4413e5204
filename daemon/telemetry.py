"""Spans: what became of one event, from the host's request to the adapter that it led to, across processes.

A span is begun in a Trace and gives the Trace that is followed within it. It is recorded only in a Trace whose flag
says so, and only where `configure` was told of a collector; else it costs a comparison, and hands on the Trace as it
came. Its facts pass the same allow-list as those of a log line: no content, host's user id or key, no error's text.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from secrets import token_hex
from typing import TYPE_CHECKING

from daemon import clock
from daemon.logs import Fact
from daemon.telemetry_choices import OtlpChoices
from daemon.telemetry_context import Trace, begun, current, following
from daemon.telemetry_export import Count

if TYPE_CHECKING:
    from daemon.telemetry_otlp import Recorder

STOP_S = 2.0
_recorder: "Recorder | None" = None


class Kind(Enum):
    """Which end of a call a span is, in OpenTelemetry's words."""

    INTERNAL = auto()
    SERVER = auto()
    CLIENT = auto()


@dataclass(slots=True)
class Span:
    """One step. `trace` is what is followed within it; `parent` is None for the first of a trace."""

    name: str
    trace: Trace
    parent: Trace | None
    kind: Kind = Kind.INTERNAL
    facts: dict[str, Fact] = field(default_factory=dict)
    link: Trace | None = None
    started_ns: int = 0
    is_open: bool = False
    """Whether it is recorded, and has not ended."""

    def end(self, facts: Mapping[str, Fact] | None = None, *, error: str | None = None) -> None:
        """Queue it for the collector; again is harmless. `error` is a type or a code, never a text."""
        recorder = _recorder
        if recorder is None or not self.is_open:
            return
        self.is_open = False
        self.facts |= {**(facts or {}), **({"error": error} if error else {})}
        recorder.record(self, clock.wall_ns())


@contextmanager
def recording(choices: OtlpChoices, role: str, count: Count = lambda _, __: None) -> Iterator[None]:
    """Record the spans of this process inside the `with`, if `choices` name a collector; at its end send the rest."""
    configure(choices, role, count)
    try:
        yield
    finally:
        stop()


def configure(choices: OtlpChoices, role: str, count: Count = lambda _, __: None) -> None:
    """Record the spans of this process until `stop`, if `choices` name a collector."""
    global _recorder  # noqa: PLW0603 - as with logs, a process has one
    if choices.endpoint:
        from daemon.telemetry_otlp import Recorder  # noqa: PLC0415 - OpenTelemetry is loaded only where it is used

        _recorder = Recorder(choices, role, count)


def stop() -> None:
    """Send what waits, for a moment, and record nothing more."""
    global _recorder
    ended, _recorder = _recorder, None
    if ended is not None:
        ended.stop(STOP_S)


def begin(
    name: str,
    parent: Trace,
    *,
    kind: Kind = Kind.INTERNAL,
    facts: Mapping[str, Fact] | None = None,
    link: Trace | None = None,
) -> Span:
    """A span in the trace of `parent`. End it."""
    if _recorder is None or not parent.sampled:
        return Span(name, parent, parent)
    trace = Trace(parent.trace_id, token_hex(8), sampled=True)
    return Span(name, trace, parent, kind, dict(facts or {}), link, clock.wall_ns(), is_open=True)


def begin_trace(name: str, *, kind: Kind = Kind.INTERNAL) -> Span:
    """The first span of a new trace, of which PLORA_OTLP_SAMPLE says how many are recorded. End it."""
    recorder = _recorder
    trace = begun(0.0 if recorder is None else recorder.sample)
    return Span(name, trace, None, kind, {}, None, clock.wall_ns(), is_open=trace.sampled)


@contextmanager
def step(name: str, *, kind: Kind = Kind.INTERNAL, facts: Mapping[str, Fact] | None = None) -> Iterator[None]:
    """A span in the current trace, if there is one; its own trace is current inside the `with`."""
    parent = current()
    if parent is None:
        yield
        return
    span = begin(name, parent, kind=kind, facts=facts)
    with ending(span), following(span.trace):
        yield


@contextmanager
def ending(span: Span) -> Iterator[None]:
    """End `span` with the `with`; what is raised inside is its error, by type."""
    try:
        yield
    except BaseException as error:
        span.end(error=type(error).__name__)
        raise
    span.end()


def exemplar(trace: Trace | None) -> dict[str, str] | None:
    """For a histogram: which trace shows where the time went. None unless that trace is recorded."""
    return {"trace_id": trace.trace_id} if trace is not None and trace.sampled and _recorder is not None else None
