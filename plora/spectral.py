"""Where population training starts its user vectors: at what already tells the users apart.

From zero or noise a Basis first has to discover that users differ, which took most of its epochs; the method of moments
gives that away for one forward pass.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .basemodel import BaseModel
from .basis import Kind
from .examples import Row, micro_batches


@torch.no_grad()
def spectral_start(base: BaseModel, rows: Sequence[Row], owner: Sequence[int], users: int, d: int) -> Tensor:
    """(users, d) principal components of what each user's targets go with; row i belongs to user owner[i].

    For user u: the mean over examples of (one-hot label - its population share) x (frozen feature - its mean); for a
    causal LM, of the features alone. By singular value decomposition over users; the strongest has unit variance.
    """
    features = _features(base, rows)  # (rows, hidden)
    features = features - features.mean(0)
    if base.kind is Kind.CLASSIFICATION:
        targets = F.one_hot(torch.tensor([row.target for row in rows])).float()
        targets = targets - targets.mean(0)  # (rows, labels)
    else:
        targets = torch.ones(len(rows), 1)
    owners = torch.tensor(owner)
    table = torch.zeros(users, targets.shape[1] * features.shape[1])
    table.index_add_(0, owners, (targets[:, :, None] * features[:, None, :]).flatten(1))
    table = table / torch.bincount(owners, minlength=users).clamp_min(1)[:, None]
    left, strength, _ = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    k = min(d, left.shape[1])
    start = torch.zeros(users, d)
    start[:, :k] = left[:, :k] * (strength[:k] / strength[0].clamp_min(1e-12)) * users**0.5
    return start


def _features(base: BaseModel, rows: Sequence[Row]) -> Tensor:
    """(rows, hidden): the frozen model's last hidden states, averaged over each row's tokens."""
    found: list[tuple[Tensor, Tensor]] = []
    for batch in micro_batches(base, Kind.CLASSIFICATION, [Row(row.ids, 0) for row in rows]):
        out = base.module(input_ids=batch.ids, attention_mask=batch.mask, output_hidden_states=True)
        mask = batch.mask[:, :, None].to(out.hidden_states[-1].dtype)
        pooled = (out.hidden_states[-1] * mask).sum(1) / mask.sum(1)
        found.append((batch.index, pooled[: len(batch.index)].float().cpu()))
    features = torch.zeros(len(rows), found[0][1].shape[1])
    for index, pooled in found:
        features[index] = pooled
    return features
