"""Intervals over users: a user's mean is one observation, since examples of one user are not independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % percentile bootstrap interval; NaN bounds where there is one observation only."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float], seed: int, *, draws: int = 4000) -> Interval:
    """The mean of `values` (one for each user), resampling users. Raises ValueError where there are none."""
    if not values:
        raise ValueError("no users to resample")
    sample = np.asarray(values, dtype=float)
    if len(sample) == 1:
        return Interval(float(sample[0]), float("nan"), float("nan"))
    chosen = np.random.default_rng(seed).integers(0, len(sample), (draws, len(sample)))
    low, high = np.percentile(sample[chosen].mean(1), (2.5, 97.5))
    return Interval(float(sample.mean()), float(low), float(high))


def paired(ours: Sequence[float], theirs: Sequence[float], seed: int) -> Interval:
    """The mean of ours - theirs, user by user. Raises ValueError where the users are not the same number."""
    return bootstrap([a - b for a, b in zip(ours, theirs, strict=True)], seed)


def median(values: Sequence[float]) -> float:
    return float(np.median(np.asarray(values, dtype=float)))
