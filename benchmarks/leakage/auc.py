"""How well a score tells members from strangers, with an interval over people."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DRAWS = 400


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over people and its 95 % interval over draws of people."""

    value: float
    low: float
    high: float


def auc(members: Tensor, strangers: Tensor) -> float:
    """The chance that a member scores higher than a stranger; ties count half."""
    both = torch.cat([members, strangers]).double()
    _, place, counts = torch.unique(both, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0)
    ranks = (ends - (counts - 1) / 2.0)[place]  # the mean rank of equals, from 1
    n, m = len(members), len(strangers)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def over_people(each: Sequence[float], seed: int = 0) -> Estimate:
    """Of one figure for each person."""
    draw = random.Random(seed)
    n = len(each)
    means = sorted(sum(each[draw.randrange(n)] for _ in range(n)) / n for _ in range(DRAWS))
    return Estimate(sum(each) / n, means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS) - 1])


def across(members: Tensor, strangers: Tensor, seed: int = 0) -> Estimate:
    """Of (adapters, owners, canaries) scores, without what is an adapter's own; adapters and owners are drawn."""
    people = len(members)

    def mean(adapters: Sequence[int], owners: Sequence[int]) -> float:
        found = []
        for adapter in adapters:
            others = [owner for owner in owners if owner != adapter]
            found.append(auc(members[adapter, others].flatten(), strangers[adapter, others].flatten()))
        return sum(found) / len(found)

    draw = random.Random(seed)
    drawn = sorted(
        mean([draw.randrange(people) for _ in range(people)], [draw.randrange(people) for _ in range(people)])
        for _ in range(DRAWS // 4)
    )
    edge = max(0, int(0.025 * len(drawn)))
    return Estimate(mean(range(people), range(people)), drawn[edge], drawn[-1 - edge])
