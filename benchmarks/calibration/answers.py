"""Answers to texts whose right label is known, and what their probabilities are worth."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from benchmarks.leakage.auc import Estimate, over_people
from plora import Calibration, expected_error
from policies.hold import Answerable, Doubt, Hold, consider

LEAST = 1e-12
SHARES = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
FLOORS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Judged:
    """The probabilities of one answer, and the right label."""

    chances: Mapping[str, float] = field(repr=False)
    right: str = field(repr=False)

    @property
    def confidence(self) -> float:
        return max(self.chances.values())

    @property
    def correct(self) -> bool:
        return max(self.chances, key=self.chances.__getitem__) == self.right

    @property
    def nats(self) -> float:
        return -math.log(max(self.chances[self.right], LEAST))

    @property
    def brier(self) -> float:
        return sum((chance - (label == self.right)) ** 2 for label, chance in self.chances.items())


People = Sequence[Sequence[Judged]]
"""The answers to each person's tests."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Negative log-likelihood in nats and Brier score, means over answers; calibration error over ten equal bins."""

    nll: float
    brier: float
    ece: float


def worth(people: People) -> Worth:
    """Of all answers alike."""
    every = list(chain.from_iterable(people))
    return Worth(
        sum(each.nats for each in every) / len(every),
        sum(each.brier for each in every) / len(every),
        expected_error([(each.confidence, each.correct) for each in every]),
    )


def calibrated(people: People, calibration: Calibration) -> list[list[Judged]]:
    """The same answers, as sure as they should be."""
    return [[Judged(calibration.of(each.chances), each.right) for each in person] for person in people]


def lowered(before: People, after: People) -> Estimate:
    """By how many nats each person's mean loss is lower after."""
    return over_people([_mean(one, _nats) - _mean(two, _nats) for one, two in zip(before, after, strict=True)])


def accuracy_at(people: People) -> dict[float, float]:
    """The accuracy of the surest share of all answers, for each of SHARES."""
    ordered = sorted(chain.from_iterable(people), key=lambda each: -each.confidence)
    found = {}
    for share in SHARES:
        part = ordered[: max(1, round(share * len(ordered)))]
        found[share] = sum(each.correct for each in part) / len(part)
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """Under one least confidence: the share of answers that is held, and the accuracy of the others and of the held.

    NaN where there are none.
    """

    floor: float
    share: float
    given: float
    held: float


def held_at(people: People) -> list[Held]:
    """What the policy does with the answers, for each of FLOORS."""
    return [_held(list(chain.from_iterable(people)), floor) for floor in FLOORS]


def _held(every: Sequence[Judged], floor: float) -> Held:
    doubt = Doubt(min_confidence=floor)
    held = [isinstance(consider(Answerable(each.chances), doubt), Hold) for each in every]
    given = [each.correct for each, is_held in zip(every, held, strict=True) if not is_held]
    kept = [each.correct for each, is_held in zip(every, held, strict=True) if is_held]
    return Held(floor, len(kept) / len(every), _share(given), _share(kept))


def _share(correct: Sequence[bool]) -> float:
    return sum(correct) / len(correct) if correct else math.nan


def _nats(each: Judged) -> float:
    return each.nats


def _mean(person: Sequence[Judged], of: Callable[[Judged], float]) -> float:
    return sum(map(of, person)) / len(person)
