"""How much of something is let in: a bucket that fills at a steady rate, from which every admission takes."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from policies.facts import InvalidFact


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` admissions a second in the long run, and `burst` at once."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.per_s) and self.per_s > 0):
            raise InvalidFact("a rate", repr(self.per_s), "more than 0 a second")
        if not (math.isfinite(self.burst) and self.burst >= 1):
            raise InvalidFact("a burst", repr(self.burst), "1 or more")


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was left at a moment."""

    left: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Admit:
    """Let it in, and keep `bucket` for the next."""

    bucket: Bucket


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send it away; in so many seconds the same would be let in, if nothing else is."""

    retry_after_s: float


def admit(bucket: Bucket | None, cost: float, rate: Rate, now: datetime) -> Admit | Refuse:
    """Decide on something that costs `cost`. None is a bucket that nobody has taken from.

    A cost above the burst takes the whole bucket, and is let in when it is full: else it never would be. A clock that
    went back fills nothing.
    """
    left = rate.burst if bucket is None else filled(bucket, rate, now)
    needed = min(max(cost, 0.0), rate.burst)
    if needed > left:
        return Refuse((needed - left) / rate.per_s)
    at = now if bucket is None else max(now, bucket.at)
    return Admit(Bucket(left - needed, at))


def filled(bucket: Bucket, rate: Rate, now: datetime) -> float:
    """What is in the bucket now."""
    passed = max(now - bucket.at, timedelta(0)).total_seconds()
    return min(rate.burst, bucket.left + passed * rate.per_s)
