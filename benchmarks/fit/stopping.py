"""Where Adam on user vectors stops best: judged on users who are not reported, on examples it has not seen."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.fit.judging import losses
from benchmarks.fit.modes import Cohort
from benchmarks.fit.people import User
from plora import BaseModel, Basis, Engine, FitSettings
from plora.examples import encode
from plora.passes import passes

GRID = (1, 2, 3, 4, 6, 8, 10, 13, 16)
"""Epochs that Adam may stop after."""


def best_steps(base: BaseModel, basis: Basis, users: Sequence[User], examples: int, settings: FitSettings) -> int:
    """The number of epochs in GRID whose vectors have the least mean held-out loss on `users`."""
    path = _path(base, basis, [user.first(examples) for user in users], settings)
    found = losses(base, basis, [user.held_out for user in users], [path[steps] for steps in GRID])
    means = [sum(each) / len(each) for each in found]
    return GRID[means.index(min(means))]


def _path(base: BaseModel, basis: Basis, cohort: Cohort, settings: FitSettings) -> dict[int, Tensor]:
    """Steps -> (users, d) vectors on the way of one long descent on the objective that plora.fit descends."""
    rows = [encode(base, basis, example) for user in cohort for example in user]
    counts = [len(user) for user in cohort]
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))  # (rows,)
    vectors = torch.zeros(len(counts), basis.spec.dimensions)
    adam = torch.optim.Adam([vectors], lr=settings.rate, betas=(0.9, 0.99), eps=1e-6)
    found = {}
    with passes(Engine(base, basis), rows) as run:
        for step in range(1, max(GRID) + 1):
            _, gradients = run.gradients(vectors[owner])
            shares = torch.stack([part.sum(0) for part in torch.split(gradients, counts)])
            vectors.grad = shares + settings.prior * (vectors - basis.prior_mean)
            adam.step()
            if step in GRID:
                found[step] = vectors.clone()
    return found
