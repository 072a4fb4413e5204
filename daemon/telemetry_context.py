"""Where in whose trace this is: W3C trace context, read, written, and followed through threads and awaits.

A Trace says no more than two random numbers and whether its spans are recorded. It is kept with the user of an event
and the run that the event led to, so that a run which another daemon carries out hours later is still found in it.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

HEADER = "traceparent"
_FORM = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_SAMPLED = 1
_HALF = 1 << 64


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace and the span in it that is to be the parent of the next. Its text is a `traceparent`, 55 characters."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse(text: object) -> Trace | None:
    """The Trace of a `traceparent`; None for what is none, as W3C has it: whoever reads it begins a new one."""
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    return Trace(found[2], found[3], bool(int(found[4], 16) & _SAMPLED))


def begun(share: float) -> Trace:
    """A new Trace, one of `share` (0 to 1) of which are recorded. Drawn by the system: a seed set elsewhere is none."""
    number = secrets.token_bytes(24)
    sampled = int.from_bytes(number[8:16], "big") < share * _HALF
    return Trace(number[:16].hex(), number[16:].hex(), sampled)


def current() -> Trace | None:
    """The Trace that this thread or task follows."""
    return _CURRENT.get()


@contextmanager
def following(trace: Trace | None) -> Iterator[None]:
    """Follow `trace` inside the `with`; tasks and threads that copy the context do too."""
    token = _CURRENT.set(trace)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def carried() -> dict[str, str]:
    """The header by which another process goes on with the current Trace, if it is recorded."""
    trace = current()
    return {HEADER: str(trace)} if trace is not None and trace.sampled else {}


_CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)
