"""The promise that vectors are fitted under, where the operator asks for one: plora.Privacy, as it travels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """What a vector keeps for each example it learns from, none of which pulls harder than `clip`: plora.Privacy."""

    epsilon: float
    delta: float
    clip: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The promise that one vector was fitted under.

    `total` is the epsilon of all of the user's versions together, `spent` what the next one adds its own to, the
    squares of mu (plora/accounting.py); None: not bounded, since a version was fitted without a promise.
    """

    promise: Promise
    total: float | None
    spent: float | None
