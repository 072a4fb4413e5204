"""Whether a consumer still consumes. A library's loop can be gone or wait for ever while its process looks well.

Two things are seen from outside the loop: when it last took or sent something, and how much the broker has that was
given to nobody yet. Messages that wait while nothing is taken are a stalled consumer, and only a new process helps. A
daemon that answers 503, or a broker that is away, are not: nothing here would be better after a restart.
"""

from dataclasses import dataclass, replace

AWAY = 5
"""A broker that did not answer for so many times the bound is asked by a new process: the client may be broken."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known, by a clock that never goes back. `waiting_since` is None while nothing waits."""

    started: float
    beat: float
    asked: float
    connected: bool = False
    consuming: bool = True
    pending: int = 0
    waiting_since: float | None = None


@dataclass(frozen=True, slots=True)
class Stalled:
    """Not alive; the code says which of the rules says so."""

    code: str


def judge(seen: Seen, now: float, stall_s: float) -> Stalled | None:
    """None while the consumer is alive at `now`."""
    if now - max(seen.asked, seen.started) > AWAY * stall_s:
        return Stalled("broker_away")
    if not seen.connected:
        return None
    if not seen.consuming:
        return Stalled("consumer_ended")
    waits = seen.waiting_since is not None and now - seen.waiting_since > stall_s
    return Stalled("nothing_taken") if waits and now - seen.beat > stall_s else None


class Pulse:
    """Keeps what is seen."""

    def __init__(self, now: float) -> None:
        self.seen = Seen(now, now, now)

    def beat(self, now: float) -> None:
        """Something was taken, or sent."""
        self.seen = replace(self.seen, beat=now)

    def ask(self, now: float, pending: int, *, consuming: bool) -> None:
        """The broker was asked, and said how many messages nobody was given yet."""
        since = (self.seen.waiting_since or now) if pending else None
        self.seen = replace(
            self.seen, asked=now, connected=True, consuming=consuming, pending=pending, waiting_since=since
        )

    def miss(self) -> None:
        """The broker could not be asked."""
        self.seen = replace(self.seen, connected=False)
