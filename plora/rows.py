"""Rows: which user each row of the current batch carries, told to a model's layers without touching its forward.

Context-local: two threads (or asyncio tasks) that use the same model never see each other's rows.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .errors import WrongRows


@dataclass(frozen=True, slots=True)
class Change:
    """A low-rank change for each row of a batch. A: (rows, r, d_in); B: (rows, d_out, r), scales included."""

    A: Tensor = field(repr=False)
    B: Tensor = field(repr=False)

    def added(self, y: Tensor, x: Tensor) -> Tensor:
        """y (rows, ..., d_out) + B A x (rows, ..., d_in): one grouped product for all rows. Raises WrongRows."""
        rows = x.shape[0]
        if self.A.shape[0] != rows:
            raise WrongRows(self.A.shape[0], rows)
        z = torch.bmm(x.reshape(rows, -1, x.shape[-1]).to(self.A.dtype), self.A.transpose(1, 2))  # (rows, tokens, r)
        flat, B = y.reshape(rows, -1, y.shape[-1]), self.B.transpose(1, 2)
        if y.dtype == self.A.dtype:
            return torch.baddbmm(flat, z, B).view(y.shape)
        return (flat + torch.bmm(z, B).to(y.dtype)).view(y.shape)

    def repeated(self, copies: int) -> "Change":
        """Each row so many times, one after another."""
        return Change(self.A.repeat_interleave(copies, 0), self.B.repeat_interleave(copies, 0))


Changes = Mapping[str, Change]
"""By the full name of the layer they change."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What the rows of one batch carry of one Basis.

    vectors: (n, d), None where all are generic; `changes` are the rows' low-rank ones beside them. `index`: (n,) which
    rows of the batch these are, None for all of them; `total` is how many rows the batch has then. A batch may also
    have each row `copies` times, one after another, as beam search makes of it. Not `enabled`: the frozen base alone.
    """

    vectors: Tensor | None = field(default=None, repr=False)
    changes: Changes | None = field(default=None, repr=False)
    index: Tensor | None = field(default=None, repr=False)
    total: int = 0
    copies: int = 1
    enabled: bool = True

    @property
    def rows(self) -> int | None:
        """How many rows a batch must have; None: as many as it likes."""
        if self.index is not None:
            return self.total
        return None if self.vectors is None else self.vectors.shape[0]

    def over(self, batch: int) -> "Batch":
        """The same for a batch of so many rows, each row once. Raises WrongRows."""
        rows = self.rows
        if rows is None or batch == rows:
            return self
        if self.copies == 1 or batch != rows * self.copies:
            raise WrongRows(rows * self.copies, batch)
        n = self.copies
        changes = None if self.changes is None else {name: each.repeated(n) for name, each in self.changes.items()}
        index = None
        if self.index is not None:
            index = (self.index[:, None] * n + torch.arange(n, device=self.index.device)).flatten()
        vectors = None if self.vectors is None else self.vectors.repeat_interleave(n, 0)
        return Batch(vectors, changes, index, batch, enabled=self.enabled)


EVERYBODY, NOBODY = Batch(), Batch(enabled=False)


class Rows:
    """What the rows of the current batch wear of one Basis. Until `use` says otherwise, `unsaid`."""

    def __init__(self, unsaid: Batch = EVERYBODY) -> None:
        self._batch: ContextVar[Batch] = ContextVar("plora_rows", default=unsaid)

    @property
    def batch(self) -> Batch:
        """What is in use now."""
        return self._batch.get()

    @property
    def vectors(self) -> Tensor | None:
        """The (batch, d) vectors in use, or None for the generic model."""
        return self.batch.vectors

    def change(self, name: str) -> Change | None:
        """The low-rank change in use at one layer, if any."""
        changes = self.batch.changes
        return None if changes is None else changes.get(name)

    @property
    def enabled(self) -> bool:
        return self.batch.enabled

    def use(self, vectors: Tensor | None, changes: Changes | None = None) -> AbstractContextManager[None]:
        """Vectors (batch, d) and low-rank changes for the rows of the batches inside the `with`."""
        return self.carrying(Batch(vectors, changes))

    def disabled(self) -> AbstractContextManager[None]:
        """Only the frozen base: no shared change, no user."""
        return self.carrying(replace(self.batch, enabled=False))

    @contextmanager
    def carrying(self, batch: Batch) -> Iterator[None]:
        """Inside the `with` the rows carry this."""
        token = self._batch.set(batch)
        try:
            yield
        finally:
            self._batch.reset(token)
