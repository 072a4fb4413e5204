"""A user's n-gram cache: what they wrote before, mixed with what a language model says."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

START = -1
"""Stands before the first token of an answer."""

ONE, TWO, TRUST = (0.0, 0.03, 0.06, 0.12, 0.2, 0.3), (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6), (0.5, 2.0, 8.0)
"""Weights that are tried."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the words alone, of words after the one before, and how often that one must be met to be half trusted."""

    one: float
    two: float
    trust: float


class Cache:
    """Counts of the tokens and pairs of a user's answers."""

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        self._ones: Counter[int] = Counter()
        self._twos: Counter[tuple[int, int]] = Counter()
        self._before: Counter[int] = Counter()
        for answer in answers:
            pairs = list(zip((START, *answer), answer, strict=False))
            self._ones.update(answer)
            self._twos.update(pairs)
            self._before.update(before for before, _ in pairs)
        self._total = self._ones.total()

    def chances(self, answer: Sequence[int]) -> Tensor:
        """(tokens, 4): whether there is a cache, chance of the token, chance after the one before, how often that was.

        Where the cache is empty, or never met the token before, the chances are 0 and count for nothing.
        """
        found = torch.zeros(len(answer), 4, dtype=torch.float64)
        for at, (before, token) in enumerate(zip((START, *answer), answer, strict=False)):
            times = self._before[before]
            one = self._ones[token] / self._total if self._total else 0.0
            two = self._twos[before, token] / times if times else 0.0
            found[at] = torch.tensor([float(self._total > 0), one, two, times], dtype=torch.float64)
        return found


def mixed(chances: Tensor, cached: Tensor, weights: Weights) -> Tensor:
    """(tokens,) chances of the mixture; chances: (tokens,) the model's own; cached: (tokens, 4)."""
    there, one, two, times = cached.unbind(1)
    singles = weights.one * there
    pairs = weights.two * times / (times + weights.trust)
    return (1 - singles - pairs) * chances + singles * one + pairs * two


def choose(people: Sequence[tuple[Tensor, Tensor]]) -> Weights:
    """The weights under which people's answers take the fewest bits per token; each is (chances, cached)."""
    best, least = Weights(0.0, 0.0, TRUST[0]), float("inf")
    for one, two, trust in itertools.product(ONE, TWO, TRUST):
        weights = Weights(one, two, trust)
        bits = sum(float(-mixed(*each, weights).clamp_min(1e-30).log2().mean()) for each in people if len(each[0]))
        if bits < least - 1e-9:
            best, least = weights, bits
    return best
