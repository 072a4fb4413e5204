"""What population training minimises beside the examples' own loss: personalized dropout and mutual information."""

from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 4.0
"""Of the reference implementation's KL term; it leaves out the usual factor T^2."""


class MutualInformation(Enum):
    """REFERENCE: the published code's terms, which pull users towards generic; INFOMAX: a real lower bound."""

    NONE = "none"
    REFERENCE = "reference"
    INFOMAX = "infomax"


def personalized_dropout(vectors: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """With probability `rate` a row's whole vector becomes 0, without rescaling: the example trains the generic path.

    vectors: (rows, d). Zhang et al., AAAI-24.
    """
    keep = torch.rand(vectors.shape[0], 1, generator=generator) >= rate
    return vectors * keep.to(vectors.device, vectors.dtype)


def feature_term(terms: Sequence[tuple[Tensor, int]]) -> Tensor:
    """The reference's mean squared distance between each target's personalised and generic change.

    `terms` is what every PLoRALinear collected: (sum of squares, count). Neither side is detached.
    """
    return torch.stack([total for total, _ in terms]).sum() / sum(count for _, count in terms)


def consistency_term(personal: Tensor, generic: Tensor) -> Tensor:
    """KL(personal || generic) at temperature 4, averaged over rows; both (rows, labels), nothing detached here.

    As in the published code it is minimised, so it moves user information *out* of the predictions:
    E_u KL(p_u || g) = I(user; label | text) + KL(mean_u p_u || g).
    """
    target = F.softmax(personal / TEMPERATURE, dim=-1)
    return F.kl_div(F.log_softmax(generic / TEMPERATURE, dim=-1), target, reduction="batchmean")


def infomax_term(own: Tensor, others: Tensor) -> Tensor:
    """InfoNCE: which of several users gave this label to this text?

    own: (rows,) log-likelihood of the target under its own user's vector; others: (rows, k) under k other users'.
    Returns the mean of -log softmax; log(k + 1) minus it is a lower bound on I(user; label | text) in nats.
    """
    scores = torch.cat([own[:, None], others], dim=1)
    return -F.log_softmax(scores, dim=1)[:, 0].mean()
