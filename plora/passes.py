"""Passes over the frozen model for a fixed set of rows, with the layers below the first target run only once.

No user vector reaches the blocks below the first adapted one, so their output is the same in every pass: the first
pass keeps it in memory, up to a bound, later passes start from there, and `close` zeroes it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from .basemodel import BaseModel
from .basis import block_of
from .engine import Engine
from .examples import MicroBatch, Row, micro_batches, row_losses
from .kept import PREFIX_BYTES, Kept, Key
from .layer import Changes


class Passes:
    """Runs `rows` through an engine with one user vector for each row, as often as asked."""

    def __init__(self, engine: Engine, rows: Sequence[Row], tokens: int | None = None) -> None:
        self.engine, self._tokens = engine, tokens or engine.tokens_per_batch
        self._rows = list(rows)
        self.twins = _twins(self._rows, by_target=engine.link is None)
        """(count,) for each row the first one that the model sees alike."""
        self._kept = engine.kept or Kept(PREFIX_BYTES)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def targets(self) -> Tensor:
        """(count,) label indices, or for a causal LM the counts of prompt tokens."""
        return torch.tensor([row.target for row in self._rows], dtype=torch.long)

    @property
    def firsts(self) -> Tensor:
        """(count,) whether a row is the first with its tokens."""
        return self.twins == torch.arange(self.count)

    def raw(self, batch: MicroBatch, vectors: Tensor | None, changes: Changes | None = None) -> Tensor:
        """What the head gives: (rows, logits), (rows, 1) where labels are ordered, (rows, length, vocabulary).

        vectors: (rows, d) for the batch's rows, or None for the generic model; `changes` are the rows' own low-rank
        ones beside them.
        """
        encoder, start = self.engine.encoder, self.engine.first_block
        if encoder is not None and changes is None and not self.engine.reaches_blocks:
            start = len(encoder.blocks)  # only the head is a user's own
        keys = [(self._rows[index].ids, tuple(batch.ids.shape), start) for index in batch.index.tolist()]
        if encoder is not None:
            hidden = self._kept.take(keys, len(batch.ids))
            if hidden is None:
                with torch.no_grad():
                    hidden = encoder.begin(batch.ids, batch.mask, start)
                self._kept.put(keys, hidden)
            with self.engine.rows.use(vectors, changes):
                return encoder.finish(hidden, batch.mask, vectors, start)
        with self.engine.rows.use(vectors, changes), _reuse(self.engine, self._kept, keys, len(batch.ids)):
            return _forward(self.engine.module, batch.ids, batch.mask)

    def logits(self, batch: MicroBatch, vectors: Tensor | None, changes: Changes | None = None) -> Tensor:
        """(rows, labels) or (rows, length, vocabulary), of which softmax gives the probabilities."""
        raw, link = self.raw(batch, vectors, changes), self.engine.link
        return raw if link is None else link.log_chances(link.free(raw.double()))

    @torch.no_grad()
    def each(
        self, vectors: Tensor | None, measure: Callable[[Tensor, Tensor], Tensor], active: Tensor | None = None
    ) -> Tensor:
        """(count, ...) of `measure(logits, targets)`, one for each row; vectors: (count, d), or None for generic.

        Only `active` rows are run; the others are 0.
        """
        out = torch.zeros(0)
        for batch in self.batches(active):
            logits = self.logits(batch, None if vectors is None else take(vectors, batch))
            found = measure(logits, batch.targets)[: len(batch.index)].float().cpu()
            if out.shape[0] == 0:
                out = torch.zeros(self.count, *found.shape[1:])
            out[batch.index] = found
        return out

    def alike(self, vector: Tensor | None, measure: Callable[[Tensor, Tensor], Tensor], rows: Tensor) -> Tensor:
        """(count, ...) of `each` with one vector (d,) for all `rows`: what the model sees alike is run once."""
        wanted = torch.zeros(self.count, dtype=torch.bool)
        wanted[self.twins[rows]] = True
        vectors = None if vector is None else vector.expand(self.count, -1)
        logits = self.each(vectors, lambda found, _: found, wanted) if self.engine.link is not None else None
        if logits is None:
            return self.each(vectors, measure, wanted)[self.twins]
        return measure(logits[self.twins], self.targets)

    def losses(self, vectors: Tensor | None, active: Tensor | None = None) -> Tensor:
        """(count,) each row's loss in nats; of the active rows only, 0 elsewhere. Half a pass."""
        any_active = active is None or bool(active.any())
        return self.each(vectors, row_losses, active) if any_active else torch.zeros(self.count)

    def gradients(self, vectors: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(count,) losses and (count, d) gradients of each row's own loss with respect to its own vector. One pass."""
        losses, gradients = torch.zeros(self.count), torch.zeros_like(vectors)
        for batch in self.batches(active):
            leaf = take(vectors, batch).requires_grad_()
            loss = row_losses(self.logits(batch, leaf), batch.targets)
            (grad,) = torch.autograd.grad(loss.sum(), leaf)  # rows are independent: the sum keeps them apart
            real = len(batch.index)
            losses[batch.index] = loss.detach()[:real].float().cpu()
            gradients[batch.index] = grad[:real].to(gradients)
        return losses, gradients

    def close(self) -> None:
        """Zero what was kept of the texts, unless the engine is told to keep it."""
        if self.engine.kept is None:
            self._kept.clear()
        self._rows.clear()

    def batches(self, active: Tensor | None = None) -> list[MicroBatch]:
        """Micro-batches of the active rows only: the model works no more for users who are done."""
        chosen = None if active is None else active.nonzero()[:, 0].tolist()
        engine = self.engine
        return micro_batches(engine.base, engine.basis.kind, self._rows, chosen, tokens=self._tokens)


@contextmanager
def passes(engine: Engine, rows: Sequence[Row], tokens: int | None = None) -> Iterator[Passes]:
    """Passes in micro-batches of so many tokens (None: the engine's) that forget the texts at the end of the `with`."""
    made = Passes(engine, rows, tokens)
    try:
        yield made
    finally:
        made.close()


T = TypeVar("T")


def with_room(
    engine: Engine, users: Sequence[Sequence[Row]], work: Callable[[Passes, list[int]], T], tokens: int | None = None
) -> T:
    """`work` on passes over the users' rows and their counts; begun again with smaller micro-batches if memory ran out.

    Raises what the device said when even the smallest did not fit.
    """
    while True:
        try:
            with passes(engine, [row for rows in users for row in rows], tokens) as run:
                return work(run, [len(rows) for rows in users])
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error) or not engine.shrink():
                raise


def _is_out_of_memory(error: Exception) -> bool:
    return not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error)


def logits_of(engine: Engine, ids: Tensor, mask: Tensor, vectors: Tensor, changes: Changes | None) -> Tensor:
    """(rows, labels) of one batch of texts that nothing is kept of, of which softmax gives the probabilities."""
    with engine.rows.use(vectors, changes):
        if engine.encoder is None:
            raw = _forward(engine.module, ids, mask)
        else:
            raw = engine.encoder.finish(engine.encoder.begin(ids, mask, 0), mask, vectors, 0)
    return raw if engine.link is None else engine.link.log_chances(engine.link.free(raw.double()))


def forward(base: BaseModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits of the model for one batch of token ids and its attention mask."""
    return _forward(base.module, ids, mask)


def _forward(module: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    takes_cache = getattr(getattr(module, "config", None), "is_decoder", False) or hasattr(module, "generate")
    extra = {"use_cache": False} if takes_cache else {}
    logits: Tensor = module(input_ids=ids, attention_mask=mask, **extra).logits
    return logits


def take(vectors: Tensor, batch: MicroBatch) -> Tensor:
    """(rows, d) of (count, d): the vectors of a batch's rows, zeros for its blanks."""
    rows = torch.zeros(batch.ids.shape[0], vectors.shape[1], device=batch.ids.device)
    rows[: len(batch.index)] = vectors[batch.index].to(rows)
    return rows


def _twins(rows: Sequence[Row], *, by_target: bool) -> Tensor:
    found: dict[tuple[tuple[int, ...], int], int] = {}
    keys = ((row.ids, row.target if by_target else 0) for row in rows)
    return torch.tensor([found.setdefault(key, at) for at, key in enumerate(keys)], dtype=torch.long)


def _reuse(engine: Engine, kept: Kept, keys: Sequence[Key], rows: int) -> AbstractContextManager[None]:
    """Inside the `with`, the model's blocks below the first target are skipped, or their outcome is kept."""
    name = min(engine.basis.spec.targets, key=block_of)
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    blocks = engine.module.get_submodule(".".join(parts[:at])) if at is not None else None
    if not isinstance(blocks, nn.ModuleList) or engine.first_block == 0:
        return nullcontext()
    hidden = kept.take(keys, rows)
    if hidden is None:
        return _recording(blocks[engine.first_block], kept, keys)
    return _replaying(blocks, engine.first_block, hidden)


@contextmanager
def _recording(block: nn.Module, kept: Kept, keys: Sequence[Key]) -> Iterator[None]:
    def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        kept.put(keys, args[0] if args else kwargs["hidden_states"])  # (rows, length, width)

    hook = block.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _replaying(blocks: nn.ModuleList, first: int, hidden: Tensor) -> Iterator[None]:
    below = list(blocks[:first])
    for at, block in enumerate(below):
        blocks[at] = _Known(hidden, block)
    try:
        yield
    finally:
        for at, block in enumerate(below):
            blocks[at] = block


class _Known(nn.Module):
    """Stands in for a block whose outcome is known; answers for the block's attributes too."""

    def __init__(self, hidden: Tensor, block: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "_hidden", hidden)
        object.__setattr__(self, "_block", block)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        return cast(Tensor, getattr(object.__getattribute__(self, "_block"), name))

    def forward(self, *_: object, **__: object) -> Tensor:
        return cast(Tensor, object.__getattribute__(self, "_hidden"))
