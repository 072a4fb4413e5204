"""A BERT-like classifier run by hand: fused projections, and nothing of the last block but the token the head reads.

Half of what a Hugging Face forward computes in its last block is never read by a classifier: the pooled token attends
to all tokens, but only it goes on. And half-precision attention has a slow backward on a CPU unless it is written out.
`encoder_of` compares the result with the model's own forward and gives None where they do not agree.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .folded import FoldedLinear, user_map
from .layer import linear_of

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of two logits' forms, relative to their size, that still is the same model."""


class Block:
    """One encoder block with query, key and value as one product."""

    def __init__(self, layer: nn.Module, d: int) -> None:
        attention = layer.get_submodule("attention.self")
        parts = [attention.get_submodule(name) for name in ("query", "key", "value")]
        found = [_weights(part) for part in parts]
        self.weight = torch.cat([weight for weight, _ in found])  # (3 width, width)
        self.bias = torch.cat([bias for _, bias in found])
        maps = [user_map(part, d) for part in parts]
        self.user = torch.cat(maps) if any(isinstance(part, FoldedLinear) for part in parts) else None
        self._parts = parts
        self.heads = cast(int, attention.num_attention_heads)
        self.width = found[0][0].shape[0]
        self._after = [layer.get_submodule(name) for name in ("attention.output", "intermediate", "output")]

    def __call__(self, hidden: Tensor, mask: Tensor, vectors: Tensor | None, *, pooled: bool = False) -> Tensor:
        """hidden: (rows, length, width); mask: (rows, 1, 1, length), added to scores. `pooled`: first token only."""
        share = None
        if self.user is not None and vectors is not None:
            share = (vectors @ self.user.T).to(hidden.dtype)[:, None]  # (rows, 1, 3 width)
        if pooled:
            read = hidden[:, :1]
            q = F.linear(read, self.weight[: self.width], self.bias[: self.width])
            kv = F.linear(hidden, self.weight[self.width :], self.bias[self.width :])
            if share is not None:
                q, kv = q + share[..., : self.width], kv + share[..., self.width :]
            k, v = torch.split(kv, self.width, -1)
        else:
            read, qkv = hidden, F.linear(hidden, self.weight, self.bias)
            q, k, v = torch.split(qkv if share is None else qkv + share, self.width, -1)
        query, key, value = self._parts
        q, k, v = _own(query, q, read), _own(key, k, hidden), _own(value, v, hidden)
        output, intermediate, last = self._after
        attended = output(self._attend(q, k, v, mask), read)
        return cast(Tensor, last(intermediate(attended), attended))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        shape = q.shape
        q, k, v = (part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (q, k, v))
        if q.device.type == "cpu" and q.dtype != torch.float32 and torch.is_grad_enabled():
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
            mixed = scores.softmax(-1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(-1, -1, q.shape[2], -1))
        joined: Tensor = mixed.transpose(1, 2).reshape(shape)
        return joined


class Encoder:
    """Embeddings, blocks and head of a BERT-like classifier."""

    def __init__(self, module: nn.Module, head: str, d: int) -> None:
        body = cast(nn.Module, module.base_model)
        self._embeddings = body.get_submodule("embeddings")
        self.blocks = [Block(layer, d) for layer in cast(nn.ModuleList, body.get_submodule("encoder.layer"))]
        pooler = getattr(body, "pooler", None)
        self._pooler = pooler if isinstance(pooler, nn.Module) else None
        self._head = module.get_submodule(head)

    def compile(self, mode: str) -> None:
        """Replace `begin` and `finish` by what torch.compile makes of them."""
        self.begin = torch.compile(self.begin, mode=mode)  # type: ignore[method-assign]
        self.finish = torch.compile(self.finish, mode=mode)  # type: ignore[method-assign]

    def begin(self, ids: Tensor, mask: Tensor, until: int) -> Tensor:
        """(rows, length, width): what enters block `until`; mask: (rows, length) of 0 and 1.

        After the last block (rows, 1, width): the token that is read.
        """
        hidden = cast(Tensor, self._embeddings(input_ids=ids))
        added = _added(mask, hidden.dtype)
        for at, block in enumerate(self.blocks[:until]):
            hidden = block(hidden, added, None, pooled=at == len(self.blocks) - 1)
        return hidden

    def finish(self, hidden: Tensor, mask: Tensor, vectors: Tensor | None, start: int) -> Tensor:
        """What the head gives, (rows, outputs), for rows that enter block `start` as `hidden`.

        Layers other than query, key and value find vectors and changes in the engine's rows, as the caller set them.
        """
        added = _added(mask, hidden.dtype)
        for at, block in enumerate(self.blocks[start:], start):
            hidden = block(hidden, added, vectors, pooled=at == len(self.blocks) - 1)
        read = hidden if self._pooler is None else self._pooler(hidden)
        return cast(Tensor, self._head(read))


@torch.no_grad()
def encoder_of(module: nn.Module, head: str | None, d: int) -> Encoder | None:
    """An Encoder that gives the same as `module`, or None where the model is of another build."""
    if head is None:
        return None
    try:
        made = Encoder(module, head, d)
        ids, mask = _probe(next(module.parameters()).device)
        found = made.finish(made.begin(ids, mask, 0), mask, None, 0).float()
    except (AttributeError, TypeError, RuntimeError, ValueError):
        return None
    wanted = cast(Tensor, module(input_ids=ids, attention_mask=mask).logits).float()
    limit = TOLERANCE[next(module.parameters()).dtype] * float(wanted.abs().max().clamp_min(0.1))
    agrees = found.shape == wanted.shape and float((found - wanted).abs().max()) <= limit
    return made if agrees else None


def _own(part: nn.Module, y: Tensor, x: Tensor) -> Tensor:
    """With the rows' own low-rank changes of one projection, if any are in use."""
    own = part.rows.change(part.name) if isinstance(part, FoldedLinear) else None
    return y if own is None else own.added(y, x)


def _weights(part: nn.Module) -> tuple[Tensor, Tensor]:
    weight, bias = (part.weight, part.bias) if isinstance(part, FoldedLinear) else linear_of(part)
    return weight, torch.zeros_like(weight[:, 0]) if bias is None else bias


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(rows, 1, 1, length): 0 for a token, the least number for padding."""
    return (1 - mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min


def _probe(device: torch.device) -> tuple[Tensor, Tensor]:
    """Two rows of any tokens, one padded, that every vocabulary has."""
    ids = torch.tensor([[3, 5, 7, 6, 4, 8], [4, 6, 3, 1, 1, 1]], device=device)
    return ids, torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]], device=device)
