"""The blocks below the first adapted one, run once for a row instead of once in every epoch.

Nothing that is trained reaches them and they have no dropout, so what they give for a text never changes. It is kept
up to a budget of bytes, once for all rows of the same text; past the budget it is worked out anew, for a few steps at a
time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from .attachment import Attachment
from .basemodel import BaseModel
from .basis import Kind, block_of
from .examples import MicroBatch, Row, micro_batches, pad_id

STRETCH = 16
"""Micro-batches whose rows go through the lower blocks together."""


Text = tuple[int, ...]
"""A text as its tokens."""


class Prefix:
    """What enters the first adapted block, for rows that are named by their number."""

    def __init__(self, base: BaseModel, live: Attachment, budget_bytes: int) -> None:
        first = min(live.basis.spec.targets, key=block_of)
        parts = first.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        blocks = live.module.get_submodule(".".join(parts[:at])) if at is not None else None
        self._base, self._left = base, budget_bytes
        self._blocks = blocks if isinstance(blocks, nn.ModuleList) else nn.ModuleList()
        self._first = block_of(first) if len(self._blocks) else 0
        self._texts: dict[int, Text] = {}
        self._kept: dict[Text, Tensor] = {}
        self._passing: dict[Text, Tensor] = {}
        self._blanks: dict[int, Tensor] = {}

    @property
    def kept(self) -> int:
        """How many texts lie within the budget."""
        return len(self._kept)

    def prepare(self, rows: Mapping[int, Row]) -> None:
        """Make `rows` known until the next call; those that fit into the budget stay known."""
        _zero(self._passing)
        self._texts = {number: row.ids for number, row in rows.items()} if self._first else {}
        missing = [text for text in dict.fromkeys(self._texts.values()) if text not in self._kept]
        if not missing:
            return
        for batch in micro_batches(self._base, Kind.CLASSIFICATION, [Row(text, 0) for text in missing]):
            for at, hidden in zip(batch.index.tolist(), self._below(batch.ids, batch.mask), strict=False):
                self._keep(missing[at], hidden.clone())
            self._blank(batch.ids.shape)

    def walk(
        self, batches: Sequence[MicroBatch], row: Callable[[int], Row], stretch: int = STRETCH
    ) -> Iterator[MicroBatch]:
        """`batches` one by one, each prepared when it comes; `row` gives the row of a number."""
        for at in range(0, len(batches), stretch):
            part = batches[at : at + stretch]
            self.prepare({n: row(n) for batch in part for n in batch.index.tolist()})
            yield from part

    @contextmanager
    def reuse(self, batch: MicroBatch) -> Iterator[None]:
        """Inside the `with` the model skips the lower blocks, if every row of `batch` is known."""
        texts = [self._texts.get(number, ()) for number in batch.index.tolist()] if self._first else []
        known = [self._kept.get(text, self._passing.get(text)) for text in texts]
        hidden = [each for each in known if each is not None]
        if not hidden or len(hidden) < len(known):
            yield
            return
        blanks = [self._blanks[batch.ids.shape[1]]] * (batch.ids.shape[0] - len(hidden))
        stacked = torch.stack([*hidden, *blanks])
        with self._standing(range(self._first), lambda _: stacked):
            yield

    def close(self) -> None:
        """Zero what was kept of the texts."""
        _zero(self._kept)
        _zero(self._passing)
        _zero(self._blanks)
        self._texts = {}

    def _keep(self, text: Text, hidden: Tensor) -> None:
        size = hidden.numel() * hidden.element_size()
        if size <= self._left:
            self._left -= size
            self._kept[text] = hidden
        else:
            self._passing[text] = hidden

    def _blank(self, shape: torch.Size) -> None:
        """What a row that only fills a micro-batch gives: it counts in the reference's feature term."""
        length = shape[1]
        if length not in self._blanks:
            mask = torch.zeros(shape, dtype=torch.long, device=self._base.device)
            mask[:, 0] = 1
            self._blanks[length] = self._below(torch.full_like(mask, pad_id(self._base)), mask)[0].clone()

    @torch.no_grad()
    def _below(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(rows, length, width): the lower blocks alone; the others pass on what they are given."""
        seen: list[Tensor] = []

        def note(hidden: Tensor) -> Tensor:
            seen.append(hidden)
            return hidden

        with self._standing(range(self._first, len(self._blocks)), note):
            run_body(self._base, ids, mask)
        return seen[0]

    @contextmanager
    def _standing(self, places: range, act: Callable[[Tensor], Tensor]) -> Iterator[None]:
        blocks = {at: self._blocks[at] for at in places}
        for at, block in blocks.items():
            self._blocks[at] = _StandIn(block, act)
        try:
            yield
        finally:
            for at, block in blocks.items():
                self._blocks[at] = block


def run_body(base: BaseModel, ids: Tensor, mask: Tensor) -> Tensor:
    """(rows, length, width): the model's last hidden states, without its head."""
    body = getattr(base.module, "base_model", base.module)
    decodes = getattr(base.module.config, "is_decoder", False) or hasattr(base.module, "generate")
    extra = {"use_cache": False} if decodes else {}
    return cast(Tensor, body(input_ids=ids, attention_mask=mask, **extra).last_hidden_state)


class _StandIn(nn.Module):
    """Stands in for a block and does `act` instead; answers for the block's attributes too."""

    def __init__(self, block: nn.Module, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        object.__setattr__(self, "_block", block)
        object.__setattr__(self, "_act", act)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        found: Tensor | nn.Module = getattr(object.__getattribute__(self, "_block"), name)
        return found

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        act: Callable[[Tensor], Tensor] = object.__getattribute__(self, "_act")
        return act(args[0] if args else kwargs["hidden_states"])


def _zero(held: dict[Text, Tensor] | dict[int, Tensor]) -> None:
    for hidden in held.values():
        hidden.zero_()
    held.clear()
