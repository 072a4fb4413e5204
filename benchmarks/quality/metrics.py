"""What one person's answers are worth: the one place where any method is measured.

ECE needs many examples, so a person only gives its sums over ten bins of equal width; the error is of a set of people.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plora import Example

FLOOR = 1e-6
"""The least probability that an answer is taken for; also what everybody gives a label that no Basis has."""

BINS = 10
LEAST = 1e-3
"""Nats per test that nobody would notice."""

TOLERANCE = 1e-3
"""Of the sum of a row's probabilities."""

Array = NDArray[np.float64]


class WrongAnswer(Exception):
    """A method's tensor is not what a method owes."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"a method's answer {self.what}: give log-probabilities (tests, labels) that sum to one"


@dataclass(frozen=True, slots=True)
class Told:
    """One person's tests as a method answered them: everything that the measures are made from.

    `truth` and `guess` index the fold's labels, followed by labels that only tests have. `nll` is in nats, each
    test's mean over draws; `guess` and `sure`, the guess's probability, are (draws, tests). `learned` counts rows.
    """

    user: str
    learned: int
    truth: tuple[int, ...] = field(repr=False)
    nll: tuple[float, ...] = field(repr=False)
    guess: tuple[tuple[int, ...], ...] = field(repr=False)
    sure: tuple[tuple[float, ...], ...] = field(repr=False)
    served: bool = True

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(found: Mapping[str, object]) -> "Told":
        guess, sure = ([tuple(draw) for draw in _list(found[name])] for name in ("guess", "sure"))
        truth, nll = tuple(_list(found["truth"])), tuple(_list(found["nll"]))
        learned = int(str(found["learned"]))
        return Told(str(found["user"]), learned, truth, nll, tuple(guess), tuple(sure), bool(found["served"]))


def tell(chances: Tensor, truth: Sequence[int], labels: int) -> tuple[Tensor, Tensor, Tensor]:
    """nll (tests,), guess and sure (draws, tests) from (draws, tests, labels) or (tests, labels) log-probabilities.

    A truth that is no label of the fold costs what FLOOR costs. Raises WrongAnswer.
    """
    drawn = chances if chances.dim() == 3 else chances[None]
    if drawn.shape[1:] != (len(truth), labels):
        raise WrongAnswer(f"has shape {tuple(chances.shape)} where (..., {len(truth)}, {labels}) is needed")
    if bool(torch.isnan(drawn).any()) or bool((drawn.double().logsumexp(-1).abs() > TOLERANCE).any()):
        raise WrongAnswer("does not sum to one")
    least = drawn.double().clamp_min(math.log(FLOOR))
    wanted = torch.tensor(truth, dtype=torch.long)
    seen = wanted < labels
    found = least.gather(2, wanted.clamp_max(labels - 1).expand(len(drawn), -1)[..., None])[..., 0]
    losses = torch.where(seen, -found, -math.log(FLOOR)).mean(0)
    sure, guess = drawn.double().exp().max(-1)
    return losses, guess, sure


def told(who: tuple[str, int], tests: Sequence[Example], chances: Tensor, labels: Sequence[str], known: int) -> Told:
    """`who`: a pseudonym and its learned rows; `labels`: the fold's `known` ones, then those that only tests have."""
    truth = [labels.index(example.target) for example in tests]
    losses, guess, sure = tell(chances, truth, known)
    return Told(
        who[0],
        who[1],
        tuple(truth),
        tuple(round(value, 5) for value in losses.tolist()),
        tuple(tuple(draw) for draw in guess.tolist()),
        tuple(tuple(round(value, 4) for value in draw) for draw in sure.tolist()),
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """One person's figures; `bins` (BINS, 3) are the share of tests, the sure and the right in each, over all tests."""

    accuracy: float
    macro_f1: float
    rmse: float
    nll: float
    bins: Array = field(repr=False)


def measure(one: Told, grades: Sequence[float] | None) -> Measured:
    """`grades`: each label's number where labels are ordered; without, RMSE is NaN."""
    truth, guess = np.tile(np.asarray(one.truth), (len(one.guess), 1)), np.asarray(one.guess)
    rmse = float("nan")
    if grades is not None:
        worth = np.asarray(grades)
        rmse = float(
            np.mean([math.sqrt(np.mean((worth[g] - worth[t]) ** 2)) for g, t in zip(guess, truth, strict=True)])
        )
    return Measured(
        accuracy=float((guess == truth).mean()),
        macro_f1=float(np.mean([macro_f1(t, g) for t, g in zip(truth, guess, strict=True)])),
        rmse=rmse,
        nll=float(np.mean(one.nll)),
        bins=_bins(guess == truth, np.asarray(one.sure)),
    )


def macro_f1(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
    """The mean F1 over labels that are true or guessed at least once."""
    scores = []
    for label in np.union1d(truth, guess):
        right = float(((truth == label) & (guess == label)).sum())
        scores.append(2 * right / float((truth == label).sum() + (guess == label).sum()))
    return float(np.mean(scores))


def verdict(own: Sequence[float], other: Sequence[float]) -> int:
    """1 where the losses `own` are lower than `other` by more than 1.96 standard errors, -1 higher, else 0: a tie.

    Less than LEAST nats on average are a tie however sure, and so is whatever one test says.
    """
    gains = np.asarray(other) - np.asarray(own)
    if len(gains) < 2:
        return 0
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains))
    return int(np.sign(gains.mean())) if abs(float(gains.mean())) > max(LEAST, 1.96 * error) else 0


def _bins(right: NDArray[np.bool_], sure: Array) -> Array:
    """Bin i holds what is sure between i / BINS and (i + 1) / BINS, the upper edge included."""
    at = np.clip(np.ceil(sure.ravel() * BINS).astype(int) - 1, 0, BINS - 1)
    parts = (np.ones(at.shape), sure.ravel(), right.ravel().astype(float))
    return np.stack([np.bincount(at, part, BINS) for part in parts], 1) / len(at)


def _list(value: object) -> list:  # type: ignore[type-arg]
    if not isinstance(value, list):
        raise TypeError("a list is needed")
    return value
