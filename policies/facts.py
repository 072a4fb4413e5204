"""What a fact must be before a policy looks at it; a fact that is not is refused when it is built."""

import math
from datetime import datetime


class PolicyError(Exception):
    """Root of what this package raises."""


class InvalidFact(PolicyError, ValueError):
    """A fact or a rule that no policy can decide on: correct the caller or the setting it names."""

    def __init__(self, fact: str, value: str, needed: str) -> None:
        super().__init__(fact, value, needed)
        self.fact, self.value, self.needed = fact, value, needed

    def __str__(self) -> str:
        return f"{self.fact} is {self.value}, but must be {self.needed}"


def whole(fact: str, value: int, *, least: int = 0, most: int | None = None) -> None:
    """Refuse what is not an integer from `least` to `most`. A bool is not an integer here."""
    if type(value) is not int or value < least or (most is not None and value > most):
        raise InvalidFact(fact, repr(value), f"a whole number of at least {least}" + _and_at_most(most))


def finite(fact: str, value: float, *, least: float = 0.0, most: float | None = None) -> None:
    """Refuse NaN, the infinities, and what is not from `least` to `most`."""
    if not math.isfinite(value) or value < least or (most is not None and value > most):
        raise InvalidFact(fact, repr(value), f"a finite number of at least {least:g}" + _and_at_most(most))


def share(fact: str, value: float) -> None:
    """Refuse what is not strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise InvalidFact(fact, repr(value), "between 0 and 1, neither included")


def aware(fact: str, value: datetime | None) -> None:
    """Refuse a time without a zone: it cannot be compared with `now`. None, a thing that never happened, is fine."""
    if value is not None and value.utcoffset() is None:
        raise InvalidFact(fact, value.isoformat(), "a time with a zone, such as UTC")


def distinct(fact: str, values: list[int]) -> None:
    """Refuse a number that is given twice."""
    seen: set[int] = set()
    for value in values:
        if value in seen:
            raise InvalidFact(fact, f"{value} twice", "given once each")
        seen.add(value)


def _and_at_most(most: float | None) -> str:
    return "" if most is None else f" and at most {most:.15g}"
