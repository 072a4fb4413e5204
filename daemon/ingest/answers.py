"""What the daemon's answer to a batch means for each of its events. Decided here, done elsewhere.

A letter is settled only by an answer that says that its event is durable, that it came before, or that no retry would
ever change the answer. Everything else is sent again, for as long as it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

FIRST_WAIT_S = 0.1
MOST_WAIT_S = 30.0
PATIENCE = 3
"""So often is a batch sent whole although it is refused as one; then in halves, to find out which event it is."""
MOST_FAILURES = 10
"""So often is an event that the daemon alone fails at sent again."""
REFUSED = frozenset({400, 413, 415, 422})
FAILED = 500
TOO_MANY = 429


class Fate(Enum):
    """What becomes of a letter."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    FORGOTTEN = "forgotten"  # a forget that was done, or an event of someone who was forgotten: nothing is kept of it
    DEAD = "dead_letter"


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing more is to be done for this event but to say so. `code` says why a letter is dead."""

    fate: Fate
    code: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """One event's outcome in the daemon's answer."""

    status: int
    outcome: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The daemon's answer; status 0 when there was none. `said` has one for each event, or is empty."""

    status: int
    code: str = ""
    retry_after_s: float = 0.0
    said: Sequence[Said] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """One for each event: None is to be sent again, after `wait_s`."""

    settled: Sequence[Settled | None]
    wait_s: float


@dataclass(frozen=True, slots=True)
class Halve:
    """Send each half by itself."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Send the same again after `wait_s`."""

    wait_s: float


def decide(reply: Reply, count: int, failures: int) -> Answered | Halve | Wait:
    """What to do about `reply` to `count` events, which were sent `failures` times before in vain."""
    wait_s = _wait_s(reply, failures)
    if reply.status in {202, 207} and len(reply.said) == count:
        settled = [_settle(each) for each in reply.said]
        return Answered(settled, wait_s if None in settled else 0.0)
    if reply.status in REFUSED and reply.code:  # without a code it is not the daemon that answers
        return Halve() if count > 1 else Answered([Settled(Fate.DEAD, reply.code)], 0.0)
    if reply.status in {FAILED, TOO_MANY} and count > 1 and failures >= PATIENCE:
        return Halve()
    if reply.status == FAILED and count == 1 and failures >= MOST_FAILURES:
        return Answered([Settled(Fate.DEAD, reply.code or str(FAILED))], 0.0)
    return Wait(wait_s)


def _settle(said: Said) -> Settled | None:
    if said.status < 300:
        known = {each.value: each for each in (Fate.STORED, Fate.DUPLICATE, Fate.FORGOTTEN)}
        return Settled(known.get(said.outcome, Fate.STORED))
    if said.code == "user_forgotten":
        return Settled(Fate.FORGOTTEN)
    if said.status == TOO_MANY or said.status >= FAILED:
        return None
    return Settled(Fate.DEAD, said.code or str(said.status))


def _wait_s(reply: Reply, failures: int) -> float:
    growing = FIRST_WAIT_S * 2.0 ** min(failures, 16)
    return min(MOST_WAIT_S, max(reply.retry_after_s, growing))
