"""The coordinates in which a Basis is handed out: whitened, and the directions that matter most first.

Let V be the vectors' covariance, V = L L'. In the coordinates L^-1 p the population has unit covariance, and any
rotation keeps that. The rotation chosen is that of the eigenvectors of the mean Gauss-Newton information
E[J' (diag pi - pi pi') J], J the derivative of a text's logits by its user's vector: so the first k coordinates are
those that change predictions the most, and the eigenvalues say how much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .basis import Kind
from .examples import IGNORE, MicroBatch, Row
from .losses import Objective, numbered_batches

SAMPLE_ROWS = 256
SAMPLE_ROWS_LM = 64
STEP = 1e-2
"""Of the forward differences, in standard deviations of the population."""

LOGIT_NUMBERS = 1 << 24
"""Differences of logits held at once: of a causal LM's answer, so many tokens as fit."""


@dataclass(frozen=True, slots=True)
class Whitened:
    """`factor` (d, d) takes new coordinates to old ones: P <- P factor. `information` (d,) is descending.

    `fisher` (d, d) is the whole of it, label bias and content together.
    """

    factor: Tensor = field(repr=False)
    vectors: Tensor = field(repr=False)
    information: Tensor = field(repr=False)
    fisher: Tensor = field(repr=False)


def whiten(objective: Objective, sample: Mapping[int, Row]) -> Whitened:
    """New coordinates for the trained vectors; `sample` are the rows that the information is measured on.

    Label bias and content are whitened each by itself, so that each stays what it is. The content's information is
    what it has beyond the label bias.
    """
    vectors = objective.vectors.detach().double()
    bias, d = objective.live.basis.spec.bias, vectors.shape[1]
    lower = torch.zeros(d, d, dtype=torch.float64)
    parts = [part for part in (slice(0, bias), slice(bias, d)) if part.stop > part.start]
    for part in parts:
        lower[part, part] = _spread(vectors[:, part])
    found = _information(objective, sample, lower)
    whole = found.clone()
    if bias:
        own, shared = found[:bias, :bias], found[:bias, bias:]
        floor = 1e-6 * own.diagonal().mean() + 1e-12
        found[bias:, bias:] -= shared.T @ torch.linalg.solve(own + floor * torch.eye(bias, dtype=own.dtype), shared)
    factor, information = torch.zeros_like(lower), torch.zeros(d, dtype=torch.float64)
    for part in parts:
        values, rotation = torch.linalg.eigh(found[part, part])
        rotation = rotation.flip(1)
        largest = rotation[rotation.abs().argmax(0), torch.arange(len(rotation))]
        signed = rotation * torch.where(largest < 0, -1.0, 1.0)  # an eigenvector's sign is left to chance
        factor[part, part], information[part] = lower[part, part] @ signed, values.flip(0)
    whitened = torch.linalg.solve(factor, vectors.T).T.float().contiguous()
    turn = torch.linalg.solve(lower, factor)
    fisher = turn.T @ whole @ turn
    return Whitened(factor.float(), whitened, information.clamp_min(0).float(), ((fisher + fisher.T) / 2).float())


def _spread(vectors: Tensor) -> Tensor:
    """The lower Cholesky factor of the vectors' covariance."""
    mean = vectors.mean(0)
    spread = (vectors - mean).T @ (vectors - mean) / max(1, len(vectors) - 1)
    floor = 1e-2 * spread.diagonal().mean() + 1e-6  # directions nobody used stay defined
    found: Tensor = torch.linalg.cholesky(spread + floor * torch.eye(len(spread), dtype=spread.dtype))
    return found


def _information(objective: Objective, sample: Mapping[int, Row], lower: Tensor) -> Tensor:
    """(d, d), by whitened coordinates, averaged over the rows of `sample`."""
    numbers, d = sorted(sample), len(lower)
    found = torch.zeros(d, d, dtype=torch.float64)
    kind, labels = objective.live.basis.kind, len(objective.live.basis.labels)
    batches = numbered_batches(objective.base, kind, sample)
    for placed in objective.prefix.walk(batches, sample.__getitem__):
        vectors = objective.vectors.detach()[objective.survey.owners(placed.index)]
        if kind is Kind.CLASSIFICATION and labels <= d:
            slopes, chances = _by_gradients(objective, placed, vectors)
            slopes = slopes.double() @ lower
        else:
            slopes, chances = _by_differences(objective, placed, vectors, lower)
        mean = torch.einsum("nk,nkd->nd", chances, slopes.double())
        each = torch.einsum("nk,nkd,nke->nde", chances, slopes.double(), slopes.double())
        found += (each - mean[:, :, None] * mean[:, None, :]).mean(0) * len(placed.index)
    return found / max(1, len(numbers))


def _by_gradients(objective: Objective, batch: MicroBatch, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, labels, d) derivatives, one backward pass for each label; and (rows, labels) chances."""
    leaf = vectors.clone().requires_grad_()
    logits = objective.logits(batch, leaf)[: len(vectors)]
    slopes = [torch.autograd.grad(one.sum(), leaf, retain_graph=True)[0] for one in logits.unbind(1)]
    return torch.stack(slopes, 1).cpu(), logits.detach().cpu().double().softmax(-1)


@torch.no_grad()
def _by_differences(objective: Objective, batch: MicroBatch, vectors: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """(rows or tokens, labels or vocabulary, d) differences along the columns of `lower`, and the chances."""
    places = _answer_places(batch, len(vectors))
    middle = _chosen(objective.logits(batch, vectors), places, len(vectors))
    moved = [
        (_chosen(objective.logits(batch, vectors + STEP * column.float()), places, len(vectors)) - middle) / STEP
        for column in lower.unbind(1)
    ]
    return torch.stack(moved, -1), middle.double().softmax(-1)


def _answer_places(batch: MicroBatch, rows: int) -> tuple[Tensor, Tensor] | None:
    if batch.targets.dim() == 1:
        return None
    row, token = (batch.targets[:rows, 1:] != IGNORE).nonzero(as_tuple=True)
    return row, token


def _chosen(logits: Tensor, places: Sequence[Tensor] | None, rows: int) -> Tensor:
    """(rows, labels), or (tokens, vocabulary) of the answers' tokens."""
    if places is None:
        return logits[:rows].cpu()
    room = max(1, LOGIT_NUMBERS // (16 * logits.shape[-1]))
    return logits[places[0][:room], places[1][:room]].float().cpu()
