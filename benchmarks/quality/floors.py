"""Floors: logistic regressions on the frozen model's embeddings, which no adapter may lose to unnoticed.

Every strength (the penalty, the weight of what everybody answers) is chosen on the population's rows to learn from:
fitted on a population user's first rows as a newcomer's would be, and tried on the same user's others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from benchmarks.quality.fits import processor_seconds
from benchmarks.quality.folds import Person
from benchmarks.quality.methods import Maker, Said
from benchmarks.quality.regressions import CHOSEN_ON, PENALTIES, Array, Pooled, Regression, floored, mean_nll
from benchmarks.quality.settings import ALL, ZERO
from benchmarks.quality.shared import Shared
from plora import Example

WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Rows that what everybody answers counts for, beside a user's own."""

LEAST_SHARE = 1e-3
"""Of a label in what everybody answers: a label nobody is expected to give would move without bound."""

DIRECTIONS = 16
BYTES_PER_NUMBER = 4

Weighed = Callable[[float], Array]
"""Log-probabilities (asked, labels) by the weight of what everybody answers."""


class Own(Protocol):
    """Fits one person's rows; penalty and weight are chosen on the population."""

    @property
    def penalties(self) -> tuple[float, ...]: ...

    def __call__(
        self, person: Person, learned: Sequence[Example], asked: Sequence[Example], penalty: float
    ) -> Weighed: ...


@dataclass(frozen=True, slots=True)
class Bias:
    """The pooled regression, its label shares moved to the user's; as many weights as labels."""

    pooled: Pooled
    penalties: tuple[float, ...] = (0.0,)

    def __call__(
        self,
        person: Person,
        learned: Sequence[Example],
        asked: Sequence[Example],
        penalty: float,  # noqa: ARG002
    ) -> Weighed:
        before = np.maximum(self.pooled.unseen_chances(person, learned).mean(0), LEAST_SHARE)
        counts = np.bincount(self.pooled.targets(learned), minlength=len(before))
        tested = _tested(self.pooled, person, asked)

        def weighed(weight: float) -> Array:
            return _log(tested * (counts + weight * before) / before)

        return weighed


@dataclass(frozen=True, slots=True)
class OnEmbeddings:
    """The user's own regression on embeddings, mixed with the population's label shares."""

    pooled: Pooled
    penalties: tuple[float, ...] = PENALTIES

    def __call__(
        self,
        person: Person,  # noqa: ARG002
        learned: Sequence[Example],
        asked: Sequence[Example],
        penalty: float,
    ) -> Weighed:
        pooled = self.pooled
        own = Regression(pooled.embedded(learned), pooled.targets(learned), len(pooled.shares), penalty)
        return _mixed(own.chances(pooled.embedded(asked)), pooled.shares, len(learned))


class OnPooled:
    """The user's own regression on the pooled one's answers and 16 directions, mixed with the pooled one's answers."""

    penalties: tuple[float, ...] = PENALTIES

    def __init__(self, pooled: Pooled, people: Sequence[Person]) -> None:
        self._pooled = pooled
        everything = np.concatenate([pooled.embedded(person.learn) for person in people])
        self._middle = everything.mean(0)
        _, _, rows = np.linalg.svd(everything - self._middle, full_matrices=False)
        self._directions = rows[:DIRECTIONS].T
        self._spread = np.maximum(((everything - self._middle) @ self._directions).std(0), 1e-9)

    def __call__(self, person: Person, learned: Sequence[Example], asked: Sequence[Example], penalty: float) -> Weighed:
        pooled = self._pooled
        before, after = pooled.unseen_chances(person, learned), _tested(pooled, person, asked)
        own = Regression(self._features(before, learned), pooled.targets(learned), before.shape[1], penalty)
        return _mixed(own.chances(self._features(after, asked)), after, len(learned))

    def _features(self, chances: Array, examples: Sequence[Example]) -> Array:
        moved = (self._pooled.embedded(examples) - self._middle) @ self._directions / self._spread
        return np.concatenate([np.log(chances), moved], 1)


@dataclass(slots=True)
class Floor:
    """A floor as a method; strengths are chosen once for each number of shots. Its seconds leave the embedding out."""

    name: str
    pooled: Pooled = field(repr=False)
    own: Own = field(repr=False)
    numbers: int
    at_zero: bool = False
    _chosen: dict[int, tuple[float, float]] = field(default_factory=dict)

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said | None:  # noqa: ARG002
        if shots == ZERO:
            if not self.at_zero:
                return None
            return Said(tuple(torch.from_numpy(_log(self.pooled.chances(one.test))) for one in people), 0.0, 0)
        penalty, weight = self._strengths(shots)
        self.pooled.embedded([example for person in people for example in (*person.first(shots), *person.test)])
        with processor_seconds() as spent:
            found = [self.own(person, person.first(shots), person.test, penalty)(weight) for person in people]
        chances = tuple(torch.from_numpy(one) for one in found)
        return Said(chances, spent[0] / len(people), BYTES_PER_NUMBER * self.numbers)

    def _strengths(self, shots: int) -> tuple[float, float]:
        if shots not in self._chosen:
            tried: dict[tuple[float, float], float] = {}
            for person in self.pooled.chosen_on:
                self._try(person, shots, tried)
            self._chosen[shots] = min(tried, key=tried.__getitem__, default=(self.own.penalties[0], WEIGHTS[2]))
        return self._chosen[shots]

    def _try(self, person: Person, shots: int, tried: dict[tuple[float, float], float]) -> None:
        """Add what each pair of strengths costs this person, on rows after those that a newcomer would have."""
        most = len(person.learn) - 1
        if most < 1:
            return
        at = min(most, max(1, round(0.8 * (most + 1))) if shots == ALL else shots)
        learned, asked = person.learn[:at], person.learn[at : at + CHOSEN_ON]
        for penalty in self.own.penalties:
            weighed = self.own(person, learned, asked, penalty)
            for weight in WEIGHTS:
                cost = mean_nll(np.exp(weighed(weight)), self.pooled.targets(asked))
                tried[penalty, weight] = tried.get((penalty, weight), 0.0) + cost


def _tested(pooled: Pooled, person: Person, asked: Sequence[Example]) -> Array:
    """The pooled answers, of a regression that has not met `asked`."""
    return pooled.chances(asked) if asked is person.test else pooled.unseen_chances(person, asked)


def _mixed(own: Array, everybody: Array, learned: int) -> Weighed:
    def weighed(weight: float) -> Array:
        return _log(learned * own + weight * everybody)

    return weighed


def _log(chances: Array) -> Array:
    """chances: (rows, labels), in any scale."""
    found: Array = np.log(floored(chances / chances.sum(1, keepdims=True)))
    return found


def _floor_bias(shared: Shared) -> Floor:
    pooled = shared.pooled
    return Floor("floor_bias", pooled, Bias(pooled), len(shared.fold.labels), at_zero=True)


def _floor_user(shared: Shared) -> Floor:
    pooled = shared.pooled
    width = pooled.embedded(shared.fold.newcomers[0].learn[:1]).shape[1]
    return Floor("floor_user", pooled, OnEmbeddings(pooled), len(shared.fold.labels) * (width + 1))


def _floor_both(shared: Shared) -> Floor:
    pooled = shared.pooled
    labels = len(shared.fold.labels)
    return Floor("floor_both", pooled, OnPooled(pooled, shared.fold.population), labels * (labels + DIRECTIONS + 1))


FLOORS: dict[str, Maker] = {"floor_bias": _floor_bias, "floor_user": _floor_user, "floor_both": _floor_both}
