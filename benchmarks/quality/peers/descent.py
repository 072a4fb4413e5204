"""AdamW on the numbers of many users at once, each exactly as if alone.

Losses, moments and steps belong to one user; a row's gradient is taken with respect to its own copy of the numbers and
added to its user's in the user's own order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.quality.peers.voices import Voice, spread
from plora.examples import Row, row_losses
from plora.passes import Passes, passes

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Course:
    """Steps of AdamW on `batch` rows of a user, in the user's order, from the first again after the last.

    `rate` falls linearly to 0 over the steps. Eight steps of 16 rows are two epochs of 64 rows, eight of 16 and fewer.
    """

    rate: float
    steps: int = 8
    batch: int = 16
    decay: float = 0.01


def descend(voice: Voice, users: Sequence[Sequence[Row]], start: Tensor, course: Course) -> Tensor:
    """(users, n): where each user's mean loss has taken `start` (n,); a user without rows stays there."""
    counts = torch.tensor([len(rows) for rows in users], dtype=torch.long)
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
    place = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]  # a row's place among its user's
    numbers = start.repeat(len(counts), 1)
    moment, square = torch.zeros_like(numbers), torch.zeros_like(numbers)
    able = (counts > 0)[:, None]
    with passes(voice.engine, [row for rows in users for row in rows]) as run:
        for step in range(course.steps):
            chosen = _chosen(place, counts[owner], step, course.batch)
            slope = _gradient(voice, run, owner, chosen, numbers)
            rate = course.rate * (1 - step / course.steps)
            moment = BETA1 * moment + (1 - BETA1) * slope
            square = BETA2 * square + (1 - BETA2) * slope.square()
            ahead = moment / (1 - BETA1 ** (step + 1))
            move = ahead / ((square / (1 - BETA2 ** (step + 1))).sqrt() + EPSILON) + course.decay * numbers
            numbers = torch.where(able, numbers - rate * move, numbers)
    return numbers


def _chosen(place: Tensor, counts: Tensor, step: int, batch: int) -> Tensor:
    """(rows,) which rows take part in a step: `batch` of each user, around and around."""
    first = step * batch % counts.clamp_min(1)
    return (place - first) % counts.clamp_min(1) < batch


def _gradient(voice: Voice, run: Passes, owner: Tensor, chosen: Tensor, numbers: Tensor) -> Tensor:
    """(users, n) gradients of the mean loss of each user's chosen rows."""
    total, shares = torch.zeros_like(numbers), torch.zeros(len(numbers))
    shares.index_add_(0, owner, chosen.float())
    for batch in run.batches(chosen):
        leaf = spread(numbers, owner, batch).requires_grad_()
        loss = row_losses(voice.logits(run, batch, leaf), batch.targets)
        (found,) = torch.autograd.grad(loss.sum(), leaf)  # rows are independent: the sum keeps them apart
        total.index_add_(0, owner[batch.index], found[: len(batch.index)].cpu())
    return total / shares.clamp_min(1)[:, None]
