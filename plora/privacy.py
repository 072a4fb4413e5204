"""Privacy: what a fit promises for each example it learns from, and the noise that keeps the promise.

The promise is (epsilon, delta) differential privacy of the vector for one example: whoever sees the vector, and knows
every other example, learns little of whether this one was there or a blank in its place. How many examples there are
is not hidden, nor is anything but the vector: what it is worth on examples is told outside the promise.
"""

import math
from dataclasses import dataclass, field
from random import Random, SystemRandom

import torch
from torch import Tensor

from .accounting import MOST_EPSILON, epsilon_of, mu_of
from .errors import InvalidSetting

DRAWS = 4
"""Draws in each number of noise: of one alone the last bits could tell which sum it was added to (Holohan 2021)."""


@dataclass(frozen=True, slots=True)
class Privacy:
    """Each of `looks` at a user's examples sums their gradients, none longer than `clip`, under Gaussian noise.

    `epsilon` is of one vector, all looks together; infinite: no noise. `clip` is in nats per prior standard deviation
    and must be chosen without looking at the user. `source` is for tests: where it is None, noise comes from the
    operating system, for a noise that can be drawn again hides nothing.
    """

    epsilon: float
    delta: float = 1e-5
    clip: float = 1.0
    looks: int = 4
    source: Random | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (0 < self.epsilon <= MOST_EPSILON or self.epsilon == math.inf):
            raise InvalidSetting("epsilon", f"above 0 and at most {MOST_EPSILON:.0f}, or infinite")
        if not 0 < self.delta <= 0.01:
            raise InvalidSetting("delta", "above 0 and at most 0.01")
        if not self.clip > 0 or (self.clip == math.inf and self.epsilon < math.inf):
            raise InvalidSetting("clip", "a number above 0; infinite only without noise")
        if self.looks < 1:
            raise InvalidSetting("looks", "1 or more")

    @property
    def mu(self) -> float:
        """Of all looks together, as plora/accounting.py has it; infinite without noise."""
        return mu_of(self.epsilon, self.delta) if self.epsilon < math.inf else math.inf

    @property
    def noise(self) -> float:
        """The standard deviation of the noise on every number of one look."""
        return self.clip * math.sqrt(self.looks) / self.mu if self.epsilon < math.inf else 0.0

    def after(self, spent: float) -> float:
        """The epsilon of this vector and of all before it together, whose squares of mu sum to `spent`."""
        return epsilon_of(math.sqrt(spent + self.mu**2), self.delta) if self.epsilon < math.inf else math.inf


def clipped(gradients: Tensor, clip: float) -> Tensor:
    """(rows, d) with no row longer than `clip`; a row that is not finite is a blank."""
    finite = torch.isfinite(gradients).all(1, keepdim=True)
    known = torch.where(finite, gradients, torch.zeros_like(gradients))
    if clip == math.inf:
        return known
    shorter: Tensor = known * (clip / known.norm(dim=1, keepdim=True).clamp_min(1e-300)).clamp_max(1.0)
    return shorter


def drawn(rows: int, width: int, deviation: float, source: Random | None) -> Tensor:
    """(rows, width) float64 of independent Gaussian noise."""
    if deviation == 0:
        return torch.zeros(rows, width, dtype=torch.float64)
    chosen = source or SystemRandom()
    scale = deviation / math.sqrt(DRAWS)
    numbers = [sum(chosen.gauss(0.0, scale) for _ in range(DRAWS)) for _ in range(rows * width)]
    return torch.tensor(numbers, dtype=torch.float64).reshape(rows, width)
