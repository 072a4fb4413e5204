"""The last block of a BERT-like classifier in population training, worked out for the one token its head reads.

The pooled token attends to all tokens, but only it goes on: of the others the last block owes keys and values alone,
a sixth of its products. The layers themselves are the model's own, so what is trained, dropped and noted stays theirs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .basemodel import BaseModel

TOLERANCE = 1e-4
"""Largest difference of two logits' forms, relative to their size, that still is the same model."""


class Pooled:
    """Stands in for the last block while it is asked to; does nothing where the model is of another build."""

    def __init__(self, base: BaseModel) -> None:
        self._blocks: nn.ModuleList | None = None
        try:
            body = cast(nn.Module, base.module.base_model)
            blocks = cast(nn.ModuleList, body.get_submodule("encoder.layer"))
            self._last = _PooledBlock(blocks[-1])
        except (AttributeError, TypeError):
            return
        if base.module.training or _same(base, blocks, self._last):
            self._blocks = blocks

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Inside the `with` the model's hidden states are those of its first token alone."""
        if self._blocks is None:
            yield
            return
        whole = self._blocks[-1]
        self._blocks[-1] = self._last
        try:
            yield
        finally:
            self._blocks[-1] = whole


class _PooledBlock(nn.Module):
    """(rows, length, width) -> (rows, 1, width). Looks its layers up at every call: they may be attached later."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "_block", block)
        attention = block.get_submodule("attention.self")
        self._heads = cast(int, attention.num_attention_heads)
        for name in ("attention.self.query", "attention.output", "intermediate", "output"):
            block.get_submodule(name)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        return cast(Tensor, getattr(object.__getattribute__(self, "_block"), name))

    def forward(self, hidden: Tensor, mask: Tensor | None = None, *_: object, **__: object) -> Tensor:
        block = cast(nn.Module, object.__getattribute__(self, "_block"))
        parts = (block.get_submodule(f"attention.self.{name}") for name in ("query", "key", "value"))
        read = hidden[:, :1]
        q, k, v = (part(read if at == 0 else hidden) for at, part in enumerate(parts))
        heads = object.__getattribute__(self, "_heads")
        q, k, v = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, :, :1])
        joined = mixed.transpose(1, 2).reshape(read.shape)
        attended = block.get_submodule("attention.output")(joined, read)
        return cast(Tensor, block.get_submodule("output")(block.get_submodule("intermediate")(attended), attended))


@torch.no_grad()
def _same(base: BaseModel, blocks: nn.ModuleList, last: nn.Module) -> bool:
    """Whether the model gives the same logits with its last block replaced."""
    ids = torch.tensor([[3, 5, 7, 6, 4, 8], [4, 6, 3, 1, 1, 1]], device=base.device)
    mask = torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]], device=base.device)
    wanted = cast(Tensor, base.module(input_ids=ids, attention_mask=mask).logits)
    whole, blocks[-1] = blocks[-1], last
    try:
        found = cast(Tensor, base.module(input_ids=ids, attention_mask=mask).logits)
    except (AttributeError, TypeError, RuntimeError, ValueError):
        return False
    finally:
        blocks[-1] = whole
    return found.shape == wanted.shape and float((found - wanted).abs().max()) <= TOLERANCE * float(
        wanted.abs().max().clamp_min(0.1)
    )
