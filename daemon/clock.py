"""The only place where the time is read: everything else is given `now`."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The wall clock: aware, UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the place


def monotonic() -> float:
    """Seconds since some fixed moment: for durations and deadlines inside one process."""
    return time.monotonic()


def wall_ns() -> int:
    """Nanoseconds since 1970 by the wall clock: for the ends of spans, which are compared across processes."""
    return time.time_ns()
