"""Where population training starts its user vectors: at what already tells the users apart.

From zero or noise a Basis first has to discover that users differ, which took most of its epochs; the method of moments
gives that away for one forward pass, or for two where the table of users is too large to be kept.

User u's row of the table is T_u, the mean over examples of (one-hot label - its population share) x (frozen feature -
its mean); for a causal LM, of the features alone, and for ordinal labels of (place - mean place) x feature. The vectors
are its principal components. The means are known only at the end, so what is summed up is Z_u = mean (t, 1) x (f, 1),
of which T_u = C_t' Z_u C_f is a linear function; and of Z, where it is not kept, the Gram matrix.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PretrainedConfig

from .basemodel import BaseModel
from .basis import Basis, Kind
from .examples import MicroBatch, Row, micro_batches
from .links import Link
from .peers import Alone, Peers
from .prefixes import Prefix, run_body
from .windows import Survey, Window, Windows

TABLE_NUMBERS = 1 << 24
"""Numbers of a table that is kept (64 MiB); a larger one is worked out twice."""

WIDEST = 2560
"""Columns of Z. Where labels x features are more, fixed random projections of the features stand in for them."""


class SpectralStart:
    """Reads a population and says where its users' vectors start."""

    def __init__(self, base: BaseModel, basis: Basis, prefix: Prefix, peers: Peers | None = None) -> None:
        self._base, self._basis, self._prefix, self._peers = base, basis, prefix, peers or Alone()
        wide = self._targets([Row((0,), 0)]).shape[1]
        hidden = int(cast(PretrainedConfig, base.module.config).hidden_size)
        narrow = min(hidden, WIDEST // wide - 1)
        draw = torch.Generator().manual_seed(0)
        drawn = torch.randn(hidden, narrow, generator=draw) / narrow**0.5
        self._projection = drawn if narrow < hidden else None
        self._shape = (wide, narrow + 1)

    @torch.no_grad()
    def vectors(self, windows: Windows, found: Survey, table_numbers: int = TABLE_NUMBERS) -> Tensor:
        """(users, d) principal components; the strongest has unit variance."""
        width = self._shape[0] * self._shape[1]
        kept = torch.zeros(found.users, width) if found.users * width <= table_numbers else None
        gram, total, mean = (torch.zeros(n, dtype=torch.float64) for n in ((width, width), width, width))
        for users, block in self._tables(windows, found):
            rows = block.flatten(1)
            if kept is not None:
                kept[users] = rows
            else:
                gram += rows.double().T @ rows.double()
            total += rows.double().sum(0)
            mean += (found.counts[users, None] * rows.double()).sum(0)
        centre = self._centre((mean / found.total).view(self._shape))
        middle = (total / found.users) @ centre
        if kept is not None:
            table = (kept.double() @ centre - middle).float()
            _, strength, right = torch.linalg.svd(table, full_matrices=False)
            directions = right[: self._basis.spec.dimensions].T
            start = self._start(found.users, table @ _signed(directions))
        else:
            spread = centre.T @ gram @ centre - found.users * torch.outer(middle, middle)
            values, right = torch.linalg.eigh(spread)
            strength = values.flip(0).clamp_min(0).sqrt()
            directions = _signed(right.flip(1)[:, : self._basis.spec.dimensions])
            start = self._start(found.users, (-middle @ directions).float().expand(found.users, -1))
            for users, block in self._tables(windows, found):
                table = block.flatten(1).double() @ centre - middle
                start[users, : directions.shape[1]] = (table @ directions).float()
        return start * float(found.users**0.5 / strength[0].clamp_min(1e-12))

    def _start(self, users: int, values: Tensor) -> Tensor:
        start = torch.zeros(users, self._basis.spec.dimensions)
        start[:, : values.shape[1]] = values
        return start

    def _tables(self, windows: Windows, found: Survey) -> Iterator[tuple[Tensor, Tensor]]:
        """(users of a window, their Z (users, targets, features))."""
        for window in windows:
            owners = found.owners(torch.arange(window.first, window.first + len(window.rows)))
            users, places = torch.unique(owners, return_inverse=True)
            block = torch.zeros(len(users), *self._shape)
            targets = self._targets(window.rows)
            batches = micro_batches(self._base, Kind.CLASSIFICATION, [Row(row.ids, 0) for row in window.rows])
            for index, features in self._features(window, batches[self._peers.rank :: self._peers.size]):
                block.index_add_(0, places[index], targets[index][:, :, None] * features[:, None, :])
            yield users, self._peers.sum(block) / found.counts[users][:, None, None]

    def _targets(self, rows: list[Row]) -> Tensor:
        """(rows, targets), the last of them 1."""
        ones = torch.ones(len(rows), 1)
        if self._basis.kind is not Kind.CLASSIFICATION:
            return ones
        places = torch.tensor([row.target for row in rows])
        if self._basis.spec.link is Link.ORDINAL:
            return torch.cat([places[:, None].float(), ones], 1)
        return torch.cat([F.one_hot(places, len(self._basis.labels)).float(), ones], 1)

    def _features(self, window: Window, batches: list[MicroBatch]) -> Iterator[tuple[Tensor, Tensor]]:
        """The frozen model's last hidden states, averaged over each row's tokens, then 1."""
        placed = [MicroBatch(b.index + window.first, b.ids, b.mask, b.targets) for b in batches]
        for batch in self._prefix.walk(placed, window.row):
            with self._prefix.reuse(batch):
                hidden = run_body(self._base, batch.ids, batch.mask)
            mask = batch.mask[:, :, None].to(hidden.dtype)
            pooled = ((hidden * mask).sum(1) / mask.sum(1))[: len(batch.index)].float().cpu()
            features = pooled if self._projection is None else pooled @ self._projection
            yield batch.index - window.first, torch.cat([features, torch.ones(len(features), 1)], 1)

    def _centre(self, mean: Tensor) -> Tensor:
        """(columns of Z, columns of T): takes the mean target from the targets and the mean feature from the features.

        mean: (targets, features) of all examples, so that its last column holds the mean target.
        """
        features = torch.cat([torch.eye(mean.shape[1] - 1, dtype=mean.dtype), -mean[-1:, :-1]])
        targets = torch.eye(1, dtype=mean.dtype)
        if self._basis.kind is Kind.CLASSIFICATION:
            targets = torch.cat([torch.eye(mean.shape[0] - 1, dtype=mean.dtype), -mean[:-1, -1][None]])
        return torch.kron(targets, features)


def _signed(directions: Tensor) -> Tensor:
    """Columns on one side of a fixed plane: a decomposition leaves their signs to chance.

    The plane is drawn, because one-hot labels make columns whose parts mirror each other.
    """
    plane = torch.randn(len(directions), generator=torch.Generator().manual_seed(0)).to(directions.dtype)
    return directions * torch.where(plane @ directions < 0, -1.0, 1.0)
