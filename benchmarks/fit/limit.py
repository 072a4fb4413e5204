"""The limit: the bare frozen Hugging Face model over each example token once, and nothing else.

No plora, no adapter, no padding that sorting by length can avoid; the gradient is taken with respect to the input
alone, since the weights are frozen. Of the batch sizes and attention kernels at hand the fastest is the limit.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from benchmarks.fit.stopwatch import synchronise

TOKEN_BUDGETS = (512, 1024, 2048)
TRIED_ROWS = 96
KERNELS = ("sdpa", "eager")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Way:
    """Tokens in a batch, and the attention kernel."""

    tokens: int
    kernel: str


@dataclass(frozen=True, slots=True)
class Batch:
    """ids (rows, length); mask None where no row is shorter than the others."""

    ids: Tensor = field(repr=False)
    mask: Tensor | None = field(repr=False)


class Bare:
    """A frozen model in one precision, whole or from block `first` upwards."""

    def __init__(self, module: nn.Module, precision: str, first: int = 0) -> None:
        self.module: PreTrainedModel = copy.deepcopy(module).to(DTYPES[precision]).eval().requires_grad_(False)
        self.precision, self.first = precision, first
        self.device = next(module.parameters()).device
        self.way = Way(TOKEN_BUDGETS[1], KERNELS[0])

    def choose(self, rows: Sequence[Sequence[int]]) -> Way:
        """Try every way on the first TRIED_ROWS of `rows`, and keep the fastest for what follows."""
        tried = rows[:TRIED_ROWS]
        timed = []
        for kernel in KERNELS:
            self.module.set_attn_implementation(kernel)
            for tokens in TOKEN_BUDGETS:
                way = Way(tokens, kernel)
                batches = self.batches(tried, way)
                self.run(batches[:1])
                start = time.perf_counter()
                self.run(batches)
                synchronise()
                timed.append((time.perf_counter() - start, tokens, kernel))
        _, tokens, kernel = min(timed)
        self.way = Way(tokens, kernel)
        self.module.set_attn_implementation(kernel)
        return self.way

    def batches(self, rows: Sequence[Sequence[int]], way: Way | None = None) -> list[Batch]:
        """Rows sorted by length, as many together as the way's tokens allow."""
        most = (way or self.way).tokens
        ordered = sorted(rows, key=len)
        found, start = [], 0
        while start < len(ordered):
            end = start + 1
            while end < len(ordered) and (end + 1 - start) * len(ordered[end]) <= most:
                end += 1
            found.append(_batch(ordered[start:end], self.device))
            start = end
        return found

    def run(self, batches: Sequence[Batch]) -> None:
        """One forward and one backward to the input; of the upper blocks only, from a stand-in for what enters them."""
        for batch in batches:
            embeds = self._leaf(batch)
            with self._upper(embeds) if self.first else _whole():
                logits = self._forward(batch, embeds)
            torch.autograd.grad(logits.float().sum(), embeds)

    @torch.no_grad()
    def below(self, batches: Sequence[Batch]) -> None:
        """One forward of the blocks under `first`."""
        if not self.first:
            return
        with self._lower():
            for batch in batches:
                self.module.base_model(input_ids=batch.ids, attention_mask=batch.mask, **self._extra())

    def _leaf(self, batch: Batch) -> Tensor:
        if self.first:
            width = self.module.config.hidden_size
            shape = (*batch.ids.shape, int(width))
            return torch.randn(shape, device=self.device, dtype=DTYPES[self.precision]).requires_grad_()
        embedding: Tensor = self.module.get_input_embeddings()(batch.ids)
        return embedding.detach().requires_grad_()

    def _forward(self, batch: Batch, embeds: Tensor) -> Tensor:
        logits: Tensor = self.module(inputs_embeds=embeds, attention_mask=batch.mask, **self._extra()).logits
        return logits

    def _extra(self) -> dict[str, bool]:
        return {"use_cache": False} if hasattr(self.module, "generate") else {}

    @contextmanager
    def _upper(self, entering: Tensor) -> Iterator[None]:
        name, blocks = blocks_of(self.module)
        _put(self.module, name, nn.ModuleList([_Entering(entering), *blocks[self.first :]]))
        try:
            yield
        finally:
            _put(self.module, name, blocks)

    @contextmanager
    def _lower(self) -> Iterator[None]:
        name, blocks = blocks_of(self.module)
        _put(self.module, name, blocks[: self.first])
        try:
            yield
        finally:
            _put(self.module, name, blocks)


class _Entering(nn.Module):
    """Stands where the lower blocks were."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        object.__setattr__(self, "_hidden", hidden)

    def forward(self, *_: object, **__: object) -> Tensor:
        hidden: Tensor = object.__getattribute__(self, "_hidden")
        return hidden


def blocks_of(module: nn.Module) -> tuple[str, nn.ModuleList]:
    """The model's stack of blocks: its first list of modules."""
    for name, child in module.named_modules():
        if isinstance(child, nn.ModuleList):
            return name, child
    raise ValueError("the model has no list of blocks")


@contextmanager
def _whole() -> Iterator[None]:
    yield


def _batch(rows: Sequence[Sequence[int]], device: torch.device) -> Batch:
    length = len(rows[-1])
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(list(row))
        mask[at, : len(row)] = 1
    full = bool(mask.all())
    return Batch(ids.to(device), None if full else mask.to(device))


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
