"""Held-out losses under many vectors: the texts run once through the blocks below the Basis's first target."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.fit.modes import Cohort
from plora import BaseModel, Basis, Engine
from plora.examples import encode
from plora.passes import passes


def losses(base: BaseModel, basis: Basis, held_out: Cohort, tables: Sequence[Tensor]) -> list[list[float]]:
    """For each table of vectors (users, d), each user's mean loss in nats on its own examples, in float32."""
    rows = [encode(base, basis, example) for user in held_out for example in user]
    counts = [len(user) for user in held_out]
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))  # (rows,)
    with passes(Engine(base, basis), rows) as run:
        found = [run.losses(table[owner]) for table in tables]
    return [[float(part.mean()) for part in torch.split(each, counts)] for each in found]
