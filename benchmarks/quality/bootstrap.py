"""Intervals over users: the same draws of users for whatever is compared, so that differences are paired."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit.stats import Interval

Array = NDArray[np.float64]


class Draws:
    """So many resamples of `users`, as weights (draws, users) that sum to one; none of them for a single user."""

    def __init__(self, users: int, seed: int, draws: int) -> None:
        if users < 1:
            raise ValueError("no users to resample")
        shares = np.full(users, 1 / users)
        self.whole = shares
        self.weights: Array = np.random.default_rng(seed).multinomial(users, shares, size=draws) / users

    def mean(self, values: Array) -> Interval:
        """values: (users,)."""
        return self._interval(float(self.whole @ values), self.weights @ values)

    def ratio(self, above: Array, below: Array) -> Interval:
        """The mean of `above` over the mean of `below`, each over the users for whom it is a number.

        NaN where the latter is 0 or less, and for the bounds where it is in more than one draw in forty.
        """
        whole = _present_mean(self.whole[None], below)[0]
        if not whole > 0:
            return Interval(float("nan"), float("nan"), float("nan"))
        mean = float(_present_mean(self.whole[None], above)[0] / whole)
        drawn = _present_mean(self.weights, below)
        usable = drawn > 0
        if bool((~usable).mean() > 0.025):
            return Interval(mean, float("nan"), float("nan"))
        return self._interval(mean, _present_mean(self.weights, above)[usable] / drawn[usable])

    def calibration(self, bins: Array) -> Interval:
        """Expected calibration error; bins: (users, bins, 3), shares of tests, of the sure and of the right."""
        off = bins[:, :, 1] - bins[:, :, 2]  # (users, bins): what a bin's answers promised too much, by its share
        return self._interval(float(np.abs(self.whole @ off).sum()), np.abs(self.weights @ off).sum(1))

    def _interval(self, mean: float, drawn: Array) -> Interval:
        if len(self.whole) == 1:
            return Interval(mean, float("nan"), float("nan"))
        low, high = np.percentile(drawn, (2.5, 97.5))
        return Interval(mean, float(low), float(high))


class Bootstrap:
    """The draws for any number of users: as many users are always drawn alike, so that what is compared is paired."""

    def __init__(self, seed: int, draws: int) -> None:
        self._seed, self._draws = seed, draws
        self._made: dict[int, Draws] = {}

    def of(self, users: int) -> Draws:
        """Raises ValueError where there are no users."""
        if users not in self._made:
            self._made[users] = Draws(users, self._seed, self._draws)
        return self._made[users]


def _present_mean(weights: Array, values: Array) -> Array:
    """(draws,) weighted means over the values that are numbers; NaN in a draw without any."""
    there = ~np.isnan(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = (weights @ np.where(there, values, 0.0)) / (weights @ there.astype(float))
    return found
