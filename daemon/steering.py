"""What an operator does to a running daemon: pause, drain, and ask why nothing happens."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from daemon.switches import Switches
from policies.trigger import Train, Wait


@dataclass(frozen=True, slots=True)
class Steering:
    """The levers of one daemon."""

    owner: str
    """How this daemon signs what it claims."""
    switches: Switches
    drain: Callable[[], None]
    draining: Callable[[], bool]
    working: Callable[[], int]
    decide: Callable[[str, datetime], Train | Wait]
    nudge: Callable[[], None]
