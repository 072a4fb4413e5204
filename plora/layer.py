"""The PLoRA layer: one frozen Linear, a shared low-rank change, and one user vector for each row of the batch."""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .compiled import changed, numbered
from .errors import WrongRows
from .rows import Batch, Change, Changes, Rows

__all__ = [
    "Change",
    "Changes",
    "PLoRALinear",
    "PersonalHead",
    "Rows",
    "device_of",
    "last_linear",
    "linear_of",
    "personalised",
    "shape_of",
]


@dataclass(frozen=True, slots=True)
class Folded:
    """weight: (d_out, d_in), the Basis's shared change in it; bias: (d_out,); user: (d_out, d) what a vector adds."""

    weight: Tensor = field(repr=False)
    bias: Tensor | None = field(repr=False)
    user: Tensor = field(repr=False)


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
        self.folded: Folded | None = None
        self.number = numbered(self)
        self.dropout = 0.0
        self.feature_terms: list[tuple[Tensor, int]] | None = None

    def fold(self) -> None:
        """Keep W + s B A and s B P beside the base, which stays as it is: rows then cost what the base alone costs.

        That is another copy of W in memory. Training changes A, B and P, which it does not follow.
        """
        weight, bias = linear_of(self.base)
        folded = (weight.float() + self.scale * (self.B @ self.A)).to(weight.dtype).contiguous()
        self.folded = Folded(folded, bias, self.scale * (self.B @ self.P))

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, ..., d_in) -> (batch, ..., d_out). Raises WrongRows where rows and vectors disagree."""
        y: Tensor = self.base(x) if self.folded is None else F.linear(x, self.folded.weight, self.folded.bias)
        if torch.compiler.is_compiling():
            return _compiled(y, x, self.number)
        return self.changed(y, x)

    def changed(self, y: Tensor, x: Tensor) -> Tensor:
        """y (batch, ..., d_out), what the base made of x (batch, ..., d_in), with what the rows carry."""
        batch = self.rows.batch
        if not batch.enabled:
            return y if self.folded is None else self.base(x)
        batch = batch.over(x.shape[0])
        if self.folded is not None:
            return self._shared(y, x, batch, self.folded)
        if batch.index is None:
            return self._change(y, x, batch)
        mine = self._change(y[batch.index], x[batch.index], batch)  # only their own rows go through a Basis's matrices
        return y.index_copy(0, batch.index, mine)

    def _shared(self, y: Tensor, x: Tensor, batch: Batch, folded: "Folded") -> Tensor:
        if batch.vectors is not None:
            share = (batch.vectors @ folded.user.T).to(y.dtype)  # (rows, d_out): the same at every token
            y = y + share.view(share.shape[0], *[1] * (x.dim() - 2), share.shape[1])
        own = None if batch.changes is None else batch.changes.get(self.name)
        return y if own is None else own.added(y, x)

    def _change(self, y: Tensor, x: Tensor, batch: Batch) -> Tensor:
        inputs = x.to(self.A.dtype)  # a half-precision model keeps a full-precision Basis
        z = self._drop(inputs) @ self.A.T  # (rows, ..., rank)
        if batch.vectors is not None:
            user = self._drop(batch.vectors) @ self.P.T  # (rows, rank): the same at every token
            z = z + user.view(user.shape[0], *[1] * (x.dim() - 2), user.shape[1])
        change = self.scale * (z @ self.B.T)
        if self.feature_terms is not None:
            generic = self.scale * (self._drop(inputs) @ self.A.T @ self.B.T)
            self.feature_terms.append(((change - generic).square().sum(), change.numel()))
        y = y + change.to(y.dtype)
        own = None if batch.changes is None else batch.changes.get(self.name)
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
        self.number = numbered(self)
        self.register_buffer("C", C)
        self.M = nn.Parameter(M, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, ..., width) -> (batch, ..., outputs). Raises WrongRows where rows and vectors disagree."""
        y: Tensor = self.linear(x)
        return _compiled(y, x, self.number) if torch.compiler.is_compiling() else self.changed(y, x)

    def changed(self, y: Tensor, x: Tensor) -> Tensor:
        """y (batch, ..., outputs), what the shared head made of x, with what is the rows' own."""
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


def linear_of(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """(d_out, d_in) weight and (d_out,) bias of a Linear or of GPT-2's Conv1D, which keeps its weight transposed."""
    weight, bias = module.weight, module.bias
    if not isinstance(weight, Tensor) or shape_of(module) is None:
        raise TypeError(f"{type(module).__name__} is not a linear layer")
    turned = weight if isinstance(module, nn.Linear) else weight.T
    return turned.detach(), bias.detach() if isinstance(bias, Tensor) else None


def device_of(module: nn.Module) -> torch.device:
    """Where the module's weights live."""
    return next(module.parameters()).device


def _compiled(y: Tensor, x: Tensor, number: int) -> Tensor:
    found: Tensor = changed(y, x, number)
    return found
