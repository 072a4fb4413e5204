"""Links: from the numbers a classifier's head gives for a text to the probabilities of its labels."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .spec import Link

__all__ = [
    "LEAST",
    "CategoricalLink",
    "LabelLink",
    "Link",
    "OrdinalLink",
    "Thresholds",
    "link_of",
    "ordered_chances",
]

LEAST = 1e-6
"""The least probability a label is given, so that an answer against every threshold costs nats, not infinity."""


class Thresholds(nn.Module):
    """Ordered labels from one number: the proportional-odds model (McCullagh 1980), as log-probabilities.

    P(label <= k) = sigmoid(t_k - s), with t_0 = `first` and t_k = t_(k-1) + softplus(steps_k): always increasing.
    Follows a head with one output, so that (..., 1) becomes (..., labels).
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        if labels < 2:
            raise ValueError("ordered labels are two or more")
        self.first = nn.Parameter(torch.tensor([-(labels - 2) / 2]))
        self.steps = nn.Parameter(torch.full((labels - 2,), 0.5413))  # softplus(0.5413) = 1

    def values(self) -> Tensor:
        """(labels - 1,) the thresholds, increasing."""
        return torch.cat([self.first, self.first + F.softplus(self.steps).cumsum(0)])

    def forward(self, score: Tensor) -> Tensor:
        """score: (..., 1) -> (..., labels) log-probabilities."""
        return ordered_chances(score, self.values()).log()


def ordered_chances(score: Tensor, thresholds: Tensor) -> Tensor:
    """(..., labels) probabilities from score (..., 1) and increasing thresholds (labels - 1,)."""
    below = torch.sigmoid(thresholds.to(score) - score)  # (..., labels - 1): P(label <= k)
    edge = torch.ones_like(score)
    chances = torch.cat([below, edge], -1) - torch.cat([torch.zeros_like(score), below], -1)
    return chances.clamp_min(LEAST)


class LabelLink(ABC):
    """The free numbers z (..., width) of a text, and how its labels' probabilities move with them.

    The number of derivatives a Gauss-Newton step needs of a text is `width`: one for ordered labels, labels - 1 for
    others.
    """

    width: int

    @abstractmethod
    def free(self, raw: Tensor) -> Tensor:
        """(..., width) from what the head gives."""

    @abstractmethod
    def log_chances(self, z: Tensor) -> Tensor:
        """(..., labels)."""

    @abstractmethod
    def scores(self, z: Tensor) -> Tensor:
        """(..., labels, width) the gradient of each label's log-probability with respect to z."""

    def losses(self, z: Tensor, targets: Tensor) -> Tensor:
        """(...,) negative log-likelihood of the targets, in nats."""
        return -self.log_chances(z).gather(-1, targets[..., None])[..., 0]


class CategoricalLink(LabelLink):
    """Softmax; z are the logits less the first one."""

    def __init__(self, labels: int) -> None:
        self.width = labels - 1

    def free(self, raw: Tensor) -> Tensor:
        return raw[..., 1:] - raw[..., :1]

    def log_chances(self, z: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(z[..., :1]), z], -1).log_softmax(-1)

    def scores(self, z: Tensor) -> Tensor:
        chances = self.log_chances(z)[..., 1:].exp()
        each = torch.eye(self.width + 1, dtype=z.dtype, device=z.device)[:, 1:]  # (labels, width)
        return each - chances[..., None, :]


class OrdinalLink(LabelLink):
    """Proportional odds; z is the head's one number."""

    width = 1

    def __init__(self, thresholds: Tensor) -> None:
        self._thresholds = thresholds.double()

    def free(self, raw: Tensor) -> Tensor:
        return raw

    def log_chances(self, z: Tensor) -> Tensor:
        return ordered_chances(z, self._thresholds).log()

    def scores(self, z: Tensor) -> Tensor:
        below = torch.sigmoid(self._thresholds.to(z) - z)
        slope, edge = below * (1 - below), torch.zeros_like(z)
        change = torch.cat([edge, slope], -1) - torch.cat([slope, edge], -1)  # of every label's probability by z
        return (change / ordered_chances(z, self._thresholds))[..., None]


def link_of(link: Link, labels: int, thresholds: Tensor | None) -> LabelLink:
    """The link of a Basis with so many labels; `thresholds` where they are ordered."""
    if link is Link.ORDINAL and thresholds is not None:
        return OrdinalLink(thresholds)
    return CategoricalLink(labels)
