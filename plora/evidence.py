"""Evidence: what a fit says of its own examples, each judged by the vector that the others give.

No example has taught the vector that it judges, so all of a user's examples can be learned from and be evidence as
well: with four examples a third of them held out would be one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .basis import Basis
from .controls import SMOOTHING, strangers
from .curves import Curves, LabelCurves
from .scores import Scores, scores_of


@dataclass(frozen=True, slots=True)
class Contender:
    """For each row (rows, d): the vector that its user's other rows give; and (rows,) what its curve missed there."""

    vectors: Tensor
    missed: Tensor


@dataclass(frozen=True, slots=True)
class Evidence:
    """One user's: scores of the whole vector and of its label bias alone, on the rows that count as evidence.

    `losses` and `generic` are of all the user's rows, in their order: under what the others gave, and nobody's vector.
    """

    whole: Scores
    bias: Scores | None
    losses: tuple[float, ...]
    generic: tuple[float, ...]


def evidence(
    found: Curves, owner: Tensor, contenders: tuple[Contender, Contender | None], *, judged: Tensor, basis: Basis
) -> list[Evidence]:
    """For each user, judged on the rows `judged` (rows,) of bool.

    `found` are the curves around the generic model. The second contender is the label bias alone; None where the Basis
    has none.
    """
    full, alone = contenders
    generic = found.judged_at(torch.zeros_like(full.vectors))
    prior = label_prior(found, owner) if isinstance(found, LabelCurves) else generic
    own, bias = _judged(found, full), None if alone is None else _judged(found, alone)
    wrong = torch.stack([found.judged_at(_worn(full.vectors, v.double(), basis)) for v in strangers(basis)]).mean(0)
    answers: list[Evidence] = []
    for user in range(int(owner.max()) + 1 if len(owner) else 0):
        mine = owner == user
        rows = mine & judged
        nobody, shares, others = generic[rows], prior[rows], wrong[rows]
        one = None if bias is None else scores_of(nobody, shares, others, bias[rows], nobody)
        whole = scores_of(nobody, shares, others, own[rows], None if bias is None else bias[rows])
        answers.append(Evidence(whole, one, tuple(own[mine, 1].tolist()), tuple(generic[mine, 1].tolist())))
    return answers


def label_prior(found: LabelCurves, owner: Tensor) -> Tensor:
    """(rows, 2) hits and losses of the generic model moved to the label shares of a user's other rows."""
    chances, targets = (
        found.log_chances_at(torch.zeros(len(owner), found.dimensions, dtype=torch.float64)),
        found.targets,
    )
    users, labels = int(owner.max()) + 1, chances.shape[1]
    counts = torch.zeros(users, labels, dtype=chances.dtype).index_add_(
        0, owner, F.one_hot(targets, labels).to(chances)
    )
    shares = torch.zeros(users, labels, dtype=chances.dtype).index_add_(0, owner, chances.exp())
    seen = counts[owner] - F.one_hot(targets, labels).to(chances)
    mean = ((shares / counts.sum(1, keepdim=True))[owner]).clamp_min(1e-6)
    shift = ((seen + SMOOTHING * mean) / (seen.sum(1, keepdim=True) + SMOOTHING)).log() - mean.log()
    moved = (chances + shift).log_softmax(1)
    losses = -moved.gather(1, targets[:, None])[:, 0]
    return torch.stack([(moved.argmax(1) == targets).to(losses), losses], 1)


def _judged(found: Curves, contender: Contender) -> Tensor:
    return found.judged_at(contender.vectors) + torch.stack([torch.zeros_like(contender.missed), contender.missed], 1)


def _worn(own: Tensor, stranger: Tensor, basis: Basis) -> Tensor:
    """A stranger's content with the user's own label bias: what is left of a gain is not about content."""
    kept = torch.arange(own.shape[1]) < basis.spec.bias
    return torch.where(kept, own, stranger.expand_as(own))


def mask_of(counts: Sequence[int], judged: Sequence[Sequence[int]] | None) -> Tensor:
    """(rows,) of bool: which rows are evidence; all of them where `judged` is None."""
    if judged is None:
        return torch.ones(sum(counts), dtype=torch.bool)
    parts = []
    for count, chosen in zip(counts, judged, strict=True):
        part = torch.zeros(count, dtype=torch.bool)
        part[list(chosen)] = True
        parts.append(part)
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)
