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

from .basis import Kind
from .examples import MicroBatch, Row, micro_batches
from .layer import last_linear
from .links import Link
from .losses import Objective
from .peers import Alone, Peers
from .prefixes import run_body
from .windows import Survey, Window, Windows

TABLE_NUMBERS = 1 << 24
"""Numbers of a table that is kept (64 MiB); a larger one is worked out twice."""

SPREAD_ROWS = 512

SMOOTHING = 5.0
"""Examples of the population's own label shares in the label bias that a user starts from."""

WIDEST = 2560
"""Columns of Z. Where labels x features are more, fixed random projections of the features stand in for them."""


class SpectralStart:
    """Reads a population and says where its users' vectors start."""

    def __init__(self, objective: Objective, peers: Peers | None = None) -> None:
        self._objective, self._peers = objective, peers or Alone()
        self._base, self._basis, self._prefix = objective.base, objective.live.basis, objective.prefix
        wide = self._targets([Row((0,), 0)]).shape[1]
        head = self._objective.live.head
        self._reads = None if head is None else last_linear(head)
        hidden = int(cast(PretrainedConfig, self._base.module.config).hidden_size)
        hidden = hidden if self._reads is None else self._reads.in_features
        narrow = min(hidden, WIDEST // wide - 1)
        draw = torch.Generator().manual_seed(0)
        drawn = torch.randn(hidden, narrow, generator=draw) / narrow**0.5
        self._projection = drawn if narrow < hidden else None
        self._shape = (wide, narrow + 1)

    @torch.no_grad()
    def vectors(self, windows: Windows, found: Survey, table_numbers: int = TABLE_NUMBERS) -> tuple[Tensor, Tensor]:
        """(users, d): the label bias that a user's own shares of the labels give, and principal components.

        The strongest component has unit variance. Then (d, outputs, width): what each says of labels and features.
        """
        width = self._shape[0] * self._shape[1]
        kept = torch.zeros(found.users, width) if found.users * width <= table_numbers else None
        gram, total, mean = (torch.zeros(n, dtype=torch.float64) for n in ((width, width), width, width))
        shares = torch.zeros(found.users, self._shape[0])  # of every label, and 1
        for users, block in self._tables(windows, found):
            rows = block.flatten(1)
            shares[users] = block[:, :, -1]
            if kept is not None:
                kept[users] = rows
            else:
                gram += rows.double().T @ rows.double()
            total += rows.double().sum(0)
            mean += (found.counts[users, None] * rows.double()).sum(0)
        centre = self._centre((mean / found.total).view(self._shape))
        middle = (total / found.users) @ centre
        content = self._basis.spec.dimensions - self._basis.spec.bias
        if kept is not None:
            table = (kept.double() @ centre - middle).float()
            _, strength, right = torch.linalg.svd(table, full_matrices=False)
            directions = _signed(right[:content].T)
            start = self._start(found.users, table @ directions)
        else:
            spread = centre.T @ gram @ centre - found.users * torch.outer(middle, middle)
            values, right = torch.linalg.eigh(spread)
            strength = values.flip(0).clamp_min(0).sqrt()
            directions = _signed(right.flip(1)[:, :content])
            start = self._start(found.users, (-middle @ directions).float().expand(found.users, -1))
            for users, block in self._tables(windows, found):
                table = block.flatten(1).double() @ centre - middle
                start[users, : directions.shape[1]] = (table @ directions).float()
        start *= float(found.users**0.5 / strength[0].clamp_min(1e-12))
        biases = self._biases(shares, found.counts, (mean / found.total).view(self._shape))
        return torch.cat([biases, start], 1), self._mixing(directions.float())

    @torch.no_grad()
    def spread(self, windows: Windows) -> float:
        """The mean variance of a feature, of some examples."""
        for window in windows:
            part = Window(window.first, window.rows[:SPREAD_ROWS])
            batches = micro_batches(self._base, Kind.CLASSIFICATION, [Row(row.ids, 0) for row in part.rows])
            found = torch.cat([self._read(batch)[0] for batch in self._placed(part, batches)])
            return float(found.var(0).mean().clamp_min(1e-8)) if len(found) > 1 else 1.0
        return 1.0

    def _mixing(self, directions: Tensor) -> Tensor:
        """(d, outputs, width) of the principal directions (columns of T, components), where a head reads features."""
        spec = self._basis.spec
        if self._reads is None:
            return torch.zeros(spec.dimensions, 1, 1)
        found = torch.zeros(spec.dimensions, spec.outputs, self._reads.in_features)
        parts = directions.T.reshape(directions.shape[1], spec.outputs, -1)
        parts = parts if self._projection is None else parts @ self._projection.T
        found[spec.bias : spec.bias + len(parts)] = parts
        return found

    def _biases(self, shares: Tensor, counts: Tensor, mean: Tensor) -> Tensor:
        """(users, bias): log of a user's smoothed label shares over the population's; zeros for ordered labels."""
        bias = self._basis.spec.bias
        if not bias or self._basis.spec.link is Link.ORDINAL:
            return torch.zeros(len(shares), bias)
        common = mean[:-1, -1].float().clamp_min(1e-6)
        seen = counts[:, None] * shares[:, :-1]
        smoothed = (seen + SMOOTHING * common) / (counts[:, None] + SMOOTHING)
        return (smoothed.log() - common.log()) @ self._basis.tensors["C"][:, :bias]

    def _start(self, users: int, values: Tensor) -> Tensor:
        start = torch.zeros(users, self._basis.spec.dimensions - self._basis.spec.bias)
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
        """What the task head's last layer reads, or a causal LM's last hidden states in the mean; then 1."""
        for batch in self._placed(window, batches):
            pooled, index = self._read(batch)
            features = pooled if self._projection is None else pooled @ self._projection
            yield index - window.first, torch.cat([features, torch.ones(len(features), 1)], 1)

    def _placed(self, window: Window, batches: list[MicroBatch]) -> Iterator[MicroBatch]:
        placed = [MicroBatch(b.index + window.first, b.ids, b.mask, b.targets) for b in batches]
        return self._prefix.walk(placed, window.row)

    def _read(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """(rows, width) features, and the rows' numbers."""
        real = len(batch.index)
        if self._reads is None:
            with self._prefix.reuse(batch):
                hidden = run_body(self._base, batch.ids, batch.mask)
            mask = batch.mask[:, :, None].to(hidden.dtype)
            return ((hidden * mask).sum(1) / mask.sum(1))[:real].float().cpu(), batch.index
        return self._objective.features(batch), batch.index

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
