"""FoldedLinear: a target layer in an engine's private copy, the Basis's shared change already in its weight."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import WrongRows
from .layer import PLoRALinear, linear_of


class FoldedLinear(nn.Module):
    """h = (W + s B A) x + b + (s B P) p: the PLoRA layer at the cost of a plain Linear and one vector for each row.

    A row's own low-rank change, where it has one, comes on top.

    W is copied, never changed. weight: (d_out, d_in) in the engine's precision; user: (d_out, d) float32.
    """

    weight: Tensor
    bias: Tensor | None
    user: Tensor

    def __init__(self, layer: PLoRALinear) -> None:
        super().__init__()
        weight, bias = linear_of(layer.base)
        change = layer.scale * (layer.B @ layer.A)
        self.register_buffer("weight", (weight.float() + change).to(weight.dtype).contiguous())
        self.register_buffer("bias", bias)
        self.register_buffer("user", layer.scale * (layer.B @ layer.P))
        self.rows, self.name = layer.rows, layer.name

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, ..., d_in) -> (batch, ..., d_out). Raises WrongRows where rows and vectors disagree."""
        y = F.linear(x, self.weight, self.bias)
        own = self.rows.change(self.name)
        if own is not None:
            y = own.added(y, x)
        vectors = self.rows.vectors
        if vectors is None:
            return y
        if vectors.shape[0] != x.shape[0]:
            raise WrongRows(vectors.shape[0], x.shape[0])
        share = (vectors @ self.user.T).to(y.dtype)  # (batch, d_out): the same at every token
        return y + share.view(share.shape[0], *[1] * (x.dim() - 2), share.shape[1])


def user_map(module: nn.Module, d: int) -> Tensor:
    """(d_out, d) what a user vector adds to a layer's output: zeros for a layer that is no target."""
    if isinstance(module, FoldedLinear):
        return module.user
    weight, _ = linear_of(module)
    return torch.zeros(weight.shape[0], d, device=weight.device)
