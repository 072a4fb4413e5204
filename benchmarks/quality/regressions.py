"""Logistic regressions on the frozen model's embeddings: one person's, and one of everybody's rows."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality.folds import Fold, Person
from benchmarks.quality.metrics import FLOOR
from plora import Example

Array = NDArray[np.float64]

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""scikit-learn's C: larger is freer."""

CHOSEN_ON = 30
"""People of the population on whom strengths are chosen, at most."""


class SklearnAbsent(Exception):
    """scikit-learn is not installed."""

    def __str__(self) -> str:
        return "scikit-learn is not installed; `make bench` installs it"


class Regression:
    """Multinomial logistic regression over all of the fold's labels, seen or not."""

    def __init__(self, x: Array, y: NDArray[np.int64], labels: int, penalty: float) -> None:
        self._labels, self._seen = labels, np.unique(y)
        self._fitted = _fit(x, y, penalty) if len(self._seen) > 1 else None

    def chances(self, x: Array) -> Array:
        """(rows, labels); a label that was not learned from has no chance."""
        found = np.zeros((len(x), self._labels))
        found[:, self._seen] = 1.0 if self._fitted is None else self._fitted(x)
        return found


class Pooled:
    """One regression on everybody's embeddings, which `embed` gives (texts, width). Raises SklearnAbsent."""

    def __init__(self, fold: Fold, embed: Callable[[Sequence[str]], Tensor]) -> None:
        self._embed, self._labels = embed, fold.labels
        people = fold.population
        self.chosen_on = people[:CHOSEN_ON]
        counts = [np.bincount(self.targets(one.learn), minlength=len(fold.labels)) for one in people]
        self.shares: Array = np.sum(counts, 0) / np.sum(counts)
        """(labels,) of the population's rows."""
        halves = people[::2], people[1::2]
        self._penalty = min(PENALTIES, key=lambda c: self._loss(self._regression(halves[0], c), halves[1]))
        self._whole = self._regression(people, self._penalty)
        self._crossed: dict[str, Regression] = {}
        for half, other in (halves, halves[::-1]):
            crossed = self._regression(other, self._penalty)
            self._crossed |= {person.name: crossed for person in half}

    def embedded(self, examples: Sequence[Example]) -> Array:
        """(examples, width) float64."""
        return self._embed([example.text for example in examples]).numpy().astype(np.float64)

    def targets(self, examples: Sequence[Example]) -> NDArray[np.int64]:
        return np.array([self._labels.index(example.target) for example in examples])

    def chances(self, examples: Sequence[Example]) -> Array:
        """(examples, labels) for tests."""
        return floored(self._whole.chances(self.embedded(examples)))

    def unseen_chances(self, person: Person, examples: Sequence[Example]) -> Array:
        """The same for rows that may have been learned from: by a regression that has not met `person`."""
        return floored(self._crossed.get(person.name, self._whole).chances(self.embedded(examples)))

    def _regression(self, people: Sequence[Person], penalty: float) -> Regression:
        examples = [example for person in people for example in person.learn]
        return Regression(self.embedded(examples), self.targets(examples), len(self._labels), penalty)

    def _loss(self, regression: Regression, people: Sequence[Person]) -> float:
        examples = [example for person in people for example in person.learn]
        return mean_nll(floored(regression.chances(self.embedded(examples))), self.targets(examples))


def floored(chances: Array) -> Array:
    """(rows, labels) that sum to one, none of them less likely than what an answer is ever taken for."""
    least = np.maximum(chances, FLOOR)
    found: Array = least / least.sum(1, keepdims=True)
    return found


def mean_nll(chances: Array, targets: NDArray[np.int64]) -> float:
    return float(-np.log(chances[np.arange(len(targets)), targets]).mean())


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """At most so many threads in NumPy and SciPy inside the `with`: small solves would wait longer than they work."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - scikit-learn's
    except ImportError:
        yield
        return
    with threadpool_limits(threads):
        yield


def _fit(x: Array, y: NDArray[np.int64], penalty: float) -> Callable[[Array], Array]:
    try:
        from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]  # noqa: PLC0415
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise SklearnAbsent from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=penalty, max_iter=200).fit(x, y)

    def chances(asked: Array) -> Array:
        found: Array = fitted.predict_proba(asked)
        return found

    return chances
