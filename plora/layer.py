"""The PLoRA layer: one frozen Linear, a shared low-rank change, and one user vector for each row of the batch."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


Changes = Mapping[str, Change]
"""By the full name of the layer they change."""


class Rows:
    """Which user vector, and which low-rank change beside it, each row of the current batch carries.

    Context-local: two threads (or asyncio tasks) that use the same model never see each other's rows.
    """

    def __init__(self) -> None:
        self._vectors: ContextVar[Tensor | None] = ContextVar("plora_rows", default=None)
        self._changes: ContextVar[Changes | None] = ContextVar("plora_changes", default=None)
        self._enabled: ContextVar[bool] = ContextVar("plora_enabled", default=True)

    @property
    def vectors(self) -> Tensor | None:
        """The (batch, d) vectors in use, or None for the generic model."""
        return self._vectors.get()

    def change(self, name: str) -> Change | None:
        """The low-rank change in use at one layer, if any."""
        changes = self._changes.get()
        return None if changes is None else changes.get(name)

    @property
    def enabled(self) -> bool:
        return self._enabled.get()

    @contextmanager
    def use(self, vectors: Tensor | None, changes: Changes | None = None) -> Iterator[None]:
        token, changed = self._vectors.set(vectors), self._changes.set(changes)
        try:
            yield
        finally:
            self._changes.reset(changed)
            self._vectors.reset(token)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Only the frozen base: no shared change, no user."""
        token = self._enabled.set(False)
        try:
            yield
        finally:
            self._enabled.reset(token)


class PLoRALinear(nn.Module):
    """h = W x + b + s B (A drop(x) + P drop(p)), Zhang et al., AAAI-24, with W and b frozen.

    `base` is a Linear or GPT-2's Conv1D with d_in inputs and d_out outputs.
    A: (rank, d_in), B: (d_out, rank), P: (rank, d); s = alpha / rank. Low-rank changes of the rows are found by `name`.
    """

    def __init__(self, base: nn.Module, A: Tensor, B: Tensor, P: Tensor, *, scale: float, rows: Rows) -> None:
        super().__init__()
        self.base = base
        self.A = nn.Parameter(A, requires_grad=False)
        self.B = nn.Parameter(B, requires_grad=False)
        self.P = nn.Parameter(P, requires_grad=False)
        self.scale = scale
        self.rows = rows
        self.name = ""
        self.dropout = 0.0
        self.feature_terms: list[tuple[Tensor, int]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, ..., d_in) -> (batch, ..., d_out). Raises WrongRows where rows and vectors disagree."""
        y: Tensor = self.base(x)
        if not self.rows.enabled:
            return y
        inputs = x.to(self.A.dtype)  # a half-precision model keeps a full-precision Basis
        z = self._drop(inputs) @ self.A.T  # (batch, ..., rank)
        vectors = self.rows.vectors
        if vectors is not None:
            if vectors.shape[0] != x.shape[0]:
                raise WrongRows(vectors.shape[0], x.shape[0])
            user = self._drop(vectors) @ self.P.T  # (batch, rank): the same at every token
            z = z + user.view(user.shape[0], *[1] * (x.dim() - 2), user.shape[1])
        change = self.scale * (z @ self.B.T)
        if self.feature_terms is not None:
            generic = self.scale * (self._drop(inputs) @ self.A.T @ self.B.T)
            self.feature_terms.append(((change - generic).square().sum(), change.numel()))
        y = y + change.to(y.dtype)
        own = self.rows.change(self.name)
        return y if own is None else own.added(y, inputs)

    def _drop(self, x: Tensor) -> Tensor:
        if self.dropout == 0.0 or not self.training:
            return x
        return F.dropout(x, self.dropout)


class PersonalHead(nn.Module):
    """The task head's last Linear, made the row's own: y = (W + sum_k p_k M_k) x + b + C p.

    C: (outputs, d) moves the answer whatever the text, M: (d, outputs, width) as the text says.
    """

    C: Tensor

    def __init__(self, linear: nn.Module, C: Tensor, M: Tensor, rows: Rows) -> None:
        super().__init__()
        self.linear, self.rows = linear, rows
        self.register_buffer("C", C)
        self.M = nn.Parameter(M, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, ..., width) -> (batch, ..., outputs). Raises WrongRows where rows and vectors disagree."""
        y: Tensor = self.linear(x)
        vectors = self.rows.vectors
        if vectors is None or not self.rows.enabled:
            return y
        rows = len(vectors)
        if rows != y.shape[0]:
            raise WrongRows(rows, y.shape[0])
        p = vectors[:, None, :]  # a product for each row: a joint one may round by a row's place among the others
        weight = torch.bmm(p, self.M.flatten(1).expand(rows, -1, -1)).view(rows, *self.M.shape[1:])
        bias = torch.bmm(p, self.C.T.expand(rows, -1, -1))
        flat = x.reshape(rows, -1, x.shape[-1]).to(weight.dtype)
        own = torch.bmm(flat, weight.transpose(1, 2)) + bias
        return y + own.view(y.shape).to(y.dtype)


def personalised(head: nn.Module, C: Tensor, M: Tensor, rows: Rows) -> nn.Module:
    """`head` with its last Linear made personal: another module over the same parameters."""
    if isinstance(head, nn.Linear):
        return PersonalHead(head, C, M, rows)
    name, child = [(name, child) for name, child in head.named_children() if last_linear(child) is not None][-1]
    made = copy.copy(head)
    made._modules = {**head._modules, name: personalised(child, C, M, rows)}
    return made


def last_linear(module: nn.Module) -> nn.Linear | None:
    """The last Linear of a task head, or None."""
    found = [child for child in module.modules() if isinstance(child, nn.Linear)]
    return found[-1] if found else None


def shape_of(module: nn.Module) -> tuple[int, int] | None:
    """(d_in, d_out) of a Linear or Conv1D, else None."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":  # transformers' GPT-2: weight is (d_in, d_out)
        weight = module.weight
        if isinstance(weight, Tensor):
            return int(weight.shape[0]), int(weight.shape[1])
    return None


def device_of(module: nn.Module) -> torch.device:
    """Where the module's weights live."""
    return next(module.parameters()).device
