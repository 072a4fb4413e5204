"""Passes over the frozen model for a fixed set of rows, with the layers below the first target run only once.

No user vector reaches the blocks below the first adapted one, so their output is the same in every pass: the first
pass keeps it in memory, later passes start from there, and `close` zeroes it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from .attachment import Attachment
from .basemodel import BaseModel
from .basis import block_of
from .examples import MicroBatch, Row, micro_batches, row_losses


class Passes:
    """Runs `rows` through an attached model with one user vector for each row, as often as asked."""

    def __init__(self, base: BaseModel, live: Attachment, rows: Sequence[Row]) -> None:
        self._base, self._live = base, live
        self._rows = list(rows)
        self._prefix = _Prefix(live)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def logits(self, batch: MicroBatch, vectors: Tensor | None) -> Tensor:
        """The model's logits for one micro-batch; vectors: (rows, d) for its rows, or None for the generic model."""
        with self._live.use(vectors), self._prefix.reuse(batch):
            return forward(self._base, batch.ids, batch.mask)

    @torch.no_grad()
    def each(
        self, vectors: Tensor | None, measure: Callable[[Tensor, Tensor], Tensor], active: Tensor | None = None
    ) -> Tensor:
        """(count, ...) of `measure(logits, targets)`, one for each row; vectors: (count, d), or None for generic.

        Only `active` rows are run; the others are 0.
        """
        out = torch.zeros(0)
        for batch in self._needed(active):
            logits = self.logits(batch, None if vectors is None else _take(vectors, batch))
            found = measure(logits, batch.targets)[: len(batch.index)].float().cpu()
            if out.shape[0] == 0:
                out = torch.zeros(self.count, *found.shape[1:])
            out[batch.index] = found
        return out

    def gradients(self, vectors: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(count,) losses and (count, d) gradients of each row's own loss with respect to its own vector."""
        losses, gradients = torch.zeros(self.count), torch.zeros_like(vectors)
        for batch in self._needed(active):
            leaf = _take(vectors, batch).requires_grad_()
            loss = row_losses(self.logits(batch, leaf), batch.targets)
            (grad,) = torch.autograd.grad(loss.sum(), leaf)  # rows are independent: the sum keeps them apart
            real = len(batch.index)
            losses[batch.index] = loss.detach()[:real].float().cpu()
            gradients[batch.index] = grad[:real].to(gradients.device)
        return losses, gradients

    def close(self) -> None:
        """Zero what was kept of the texts."""
        self._prefix.clear()
        self._rows.clear()

    def _needed(self, active: Tensor | None) -> list[MicroBatch]:
        """Micro-batches of the active rows only: the model works no more for users who are done."""
        chosen = None if active is None else active.nonzero()[:, 0].tolist()
        return micro_batches(self._base, self._live.basis.kind, self._rows, chosen)


@contextmanager
def passes(base: BaseModel, live: Attachment, rows: Sequence[Row]) -> Iterator[Passes]:
    """Passes that forget the texts at the end of the `with`."""
    made = Passes(base, live, rows)
    try:
        yield made
    finally:
        made.close()


def forward(base: BaseModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits of the model for one batch of token ids and its attention mask."""
    takes_cache = getattr(getattr(base.module, "config", None), "is_decoder", False) or hasattr(base.module, "generate")
    extra = {"use_cache": False} if takes_cache else {}
    logits: Tensor = base.module(input_ids=ids, attention_mask=mask, **extra).logits
    return logits


def _take(vectors: Tensor, batch: MicroBatch) -> Tensor:
    rows = torch.zeros(batch.ids.shape[0], vectors.shape[1], device=batch.ids.device)
    rows[: len(batch.index)] = vectors[batch.index].to(rows.device)
    return rows


class _Prefix:
    """Keeps what enters the first adapted block, and skips the blocks below it once that is known."""

    def __init__(self, live: Attachment) -> None:
        first = min(live.basis.spec.targets, key=block_of)
        parts = first.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        blocks = live.module.get_submodule(".".join(parts[:at])) if at is not None else None
        self._blocks = blocks if isinstance(blocks, nn.ModuleList) else nn.ModuleList()
        self._first = block_of(first) if len(self._blocks) else 0
        self._kept: dict[int, Tensor] = {}

    def reuse(self, batch: MicroBatch) -> AbstractContextManager[None]:
        if self._first == 0:
            return nullcontext()
        kept = [self._kept.get(index) for index in batch.index.tolist()]
        known = [hidden for hidden in kept if hidden is not None]
        if len(known) < len(kept):
            return self._recording(batch)
        blanks = [torch.zeros_like(known[0])] * (batch.ids.shape[0] - len(known))
        return self._replaying(torch.stack([*known, *blanks]))

    def clear(self) -> None:
        for hidden in self._kept.values():
            hidden.zero_()
        self._kept.clear()

    @contextmanager
    def _recording(self, batch: MicroBatch) -> Iterator[None]:
        def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            hidden = (args[0] if args else kwargs["hidden_states"]).detach().clone()  # (rows, length, width)
            self._kept.update(zip(batch.index.tolist(), hidden, strict=False))

        hook = self._blocks[self._first].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    @contextmanager
    def _replaying(self, hidden: Tensor) -> Iterator[None]:
        below = list(self._blocks[: self._first])
        for at, block in enumerate(below):
            self._blocks[at] = _Kept(hidden, block)
        try:
            yield
        finally:
            for at, block in enumerate(below):
                self._blocks[at] = block


class _Kept(nn.Module):
    """Stands in for a block whose outcome is known; answers for the block's attributes too."""

    def __init__(self, hidden: Tensor, block: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "_hidden", hidden)
        object.__setattr__(self, "_block", block)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        found: Tensor | nn.Module = getattr(object.__getattribute__(self, "_block"), name)
        return found

    def forward(self, *_: object, **__: object) -> Tensor:
        hidden: Tensor = object.__getattribute__(self, "_hidden")
        return hidden
