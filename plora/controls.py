"""The controls that a personal answer must beat: a user's label shares, and a stranger's vector."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .basis import Basis

STRANGERS = 4
"""Wrong-user vectors, drawn once for a Basis from its population's distribution: nobody's, and the same for all."""

SMOOTHING = 2.0
"""Pseudo-examples of the generic model's own label shares in a user's label prior."""


def strangers(basis: Basis) -> Tensor:
    """(STRANGERS, d) vectors of nobody: draws from N(prior mean, 1), seeded by the Basis's fingerprint.

    In pairs on both sides of the mean: a few free draws could all share one taste, and would match whoever has it.
    """
    generator = torch.Generator().manual_seed(int(basis.fingerprint[:15], 16))
    away = torch.randn(STRANGERS // 2, basis.spec.dimensions, generator=generator)
    return basis.prior_mean + torch.cat([away, -away])


def prior_shift(generic: Tensor, learned: Sequence[int]) -> Tensor:
    """(labels,) what to add to the generic log-probabilities so that they follow a user's own label shares.

    generic: (n, labels) probabilities on the learned texts; learned: their labels. With the generic mean g and n_y
    examples of label y: log((n_y + SMOOTHING g_y) / (n + SMOOTHING)) - log g_y.
    """
    if len(learned) == 0:
        return torch.zeros(generic.shape[1])
    mean = generic.mean(0).clamp_min(1e-6)
    counts = torch.bincount(torch.tensor(learned), minlength=generic.shape[1])
    return ((counts + SMOOTHING * mean) / (len(learned) + SMOOTHING)).log() - mean.log()
