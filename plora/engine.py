"""Engine: a private copy of a frozen model with one Basis folded in, made for passes over many users' rows.

The copy shares every weight it does not change with the model it was made from, which is never touched: a host may use
that model, with this or another Basis attached, while an engine fits.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from .attachment import Attachment
from .basemodel import BaseModel
from .basis import HEADS, Basis, Kind, block_of
from .encoder import Encoder, encoder_of
from .errors import WrongBaseModel
from .folded import FoldedLinear
from .kept import PREFIX_BYTES, Kept
from .layer import PLoRALinear, linear_of
from .links import LabelLink, Link, Thresholds, link_of

TOKENS_PER_BATCH = {"cpu": 512, "cuda": 16_384}
"""Tokens in one micro-batch, padding and blank rows included: enough to keep a device's matrix units busy.

Every micro-batch of a length has the same shape, so that a row's arithmetic never depends on who else is there; the
price is blank rows in the last one of each length, which a larger number would make more of.
"""

LEAST_TOKENS = 128
"""The smallest micro-batch that is still tried when memory runs out."""


class Precision(Enum):
    """What numbers the passes compute in. AUTO is bfloat16 where the device multiplies it faster, else float32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Engine:
    """Runs passes for one Basis. Not for two threads at once."""

    def __init__(
        self,
        base: BaseModel,
        basis: Basis,
        precision: Precision = Precision.FP32,
        *,
        tokens_per_batch: int | None = None,
    ) -> None:
        """Raises WrongBaseModel, TargetsNotFound or WrongShape.

        `tokens_per_batch` None is the device's own; the largest cohorts gain by more.
        """
        if base.fingerprint != basis.base:
            raise WrongBaseModel(basis.base, base.fingerprint)
        self.base, self.basis = base, basis
        self.precision = settled(precision, base.device)
        self.kept: Kept | None = None
        self.tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH.get(base.device.type, 512)
        self.module = _private(base.module, _DTYPES[self.precision])
        live = Attachment(self.module, basis)
        self.rows = live.rows
        for name, layer in live.layers.items():
            parent, _, child = name.rpartition(".")
            setattr(self.module.get_submodule(parent), child, FoldedLinear(layer))
        self.link = self._take_link()
        self.first_block = min(block_of(name) for name in basis.spec.targets)
        self.reaches_blocks = any(bool(v.any()) for n, v in basis.tensors.items() if n.startswith("P."))
        """Whether a user vector changes any block; where it does not, users share all of them."""
        head = next((name for name in HEADS if isinstance(getattr(self.module, name, None), nn.Module)), None)
        d = basis.spec.dimensions
        self.encoder: Encoder | None = encoder_of(self.module, head, d) if self.link is not None else None
        _written_attention(self.module, self.precision, base.device)

    def compile(self, mode: str = "reduce-overhead") -> None:
        """Let torch.compile fuse the passes; "reduce-overhead" also makes CUDA graphs of them, on a GPU.

        Each length of text is compiled when it is first met, which takes a CPU tens of seconds and gains it a tenth:
        worth it on a GPU that fits for hours. Needs a compiler on the machine.
        """
        if self.encoder is not None:
            self.encoder.compile(mode)
        else:
            self.module.compile(mode=mode)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Inside the `with`, what the lower blocks gave for a text serves all passes; at its end it is zeroed."""
        self.kept = Kept(PREFIX_BYTES)
        try:
            yield
        finally:
            self.kept.clear()
            self.kept = None

    def shrink(self) -> bool:
        """Halve the micro-batch after memory ran out; whether there was room for that."""
        if self.tokens_per_batch <= LEAST_TOKENS:
            return False
        self.tokens_per_batch //= 2
        return True

    def _take_link(self) -> LabelLink | None:
        """Make the head give raw scores, in float32, and keep what turns them into probabilities; None for an LM."""
        if self.basis.kind is not Kind.CLASSIFICATION:
            return None
        name = next(name for name in HEADS if isinstance(getattr(self.module, name, None), nn.Module))
        head, thresholds = getattr(self.module, name), None
        if self.basis.spec.link is Link.ORDINAL:
            thresholds = cast(Thresholds, head[1].float()).values().detach()
            head = head[0]
        setattr(self.module, name, _InFull(head))
        return link_of(self.basis.spec.link, len(self.basis.labels), thresholds)


class _InFull(nn.Module):
    """The task head in float32 whatever the body computes in: its cost is nothing, and losses come out of it."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = _by_row(head.float())

    def forward(self, hidden: Tensor) -> Tensor:
        found: Tensor = self.head(hidden.float())
        return found


class _ByRow(nn.Module):
    """A Linear of few outputs, one product for each row: a CPU's joint product rounds by a row's place among others."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight, bias = linear_of(layer)
        self.register_buffer("weight", weight.T)
        self.register_buffer("bias", torch.zeros(weight.shape[0], device=weight.device) if bias is None else bias)

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., d_in) -> (..., d_out)."""
        rows = x.reshape(-1, 1, x.shape[-1])
        found = torch.bmm(rows, self.weight.expand(len(rows), -1, -1))
        return found.view(*x.shape[:-1], -1) + self.bias


def _by_row(head: nn.Module) -> nn.Module:
    if isinstance(head, nn.Linear):
        return _ByRow(head)
    for name, child in list(head.named_modules()):
        if isinstance(child, nn.Linear):
            parent, _, last = name.rpartition(".")
            setattr(head.get_submodule(parent), last, _ByRow(child))
    return head


def settled(precision: Precision, device: torch.device) -> Precision:
    """AUTO made concrete for a device."""
    if precision is not Precision.AUTO:
        return precision
    if device.type == "cuda":
        return Precision.BF16 if torch.cuda.is_bf16_supported() else Precision.FP16
    return Precision.BF16 if torch.cpu.get_capabilities().get("amx_bf16") else Precision.FP32


_DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


def _private(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy that shares each weight already of `dtype`; layers that a host has attached are left out of it."""
    memo: dict[int, object] = {}
    for value in chain(module.parameters(), module.buffers()):
        if not value.is_floating_point() or value.dtype == dtype:
            memo[id(value)] = value
        elif isinstance(value, nn.Parameter):
            memo[id(value)] = nn.Parameter(value.detach().to(dtype), requires_grad=False)
        else:
            memo[id(value)] = value.to(dtype)
    for child in module.modules():
        if isinstance(child, PLoRALinear):
            memo[id(child)] = copy.deepcopy(child.base, memo)
    made = copy.deepcopy(module, memo)
    return made.eval()


def _written_attention(module: nn.Module, precision: Precision, device: torch.device) -> None:
    """On a CPU the fused attention's backward is slow in half precision: take the written-out one."""
    config = getattr(module, "config", None)
    if device.type == "cpu" and precision is not Precision.FP32 and config is not None:
        for child in module.modules():
            own = getattr(child, "config", None)
            if own is not None and hasattr(own, "_attn_implementation"):
                own._attn_implementation = "eager"
