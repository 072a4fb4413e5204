"""Voices: how a user's own numbers enter the frozen model with a Basis folded in, one row of numbers for each text."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.quality.methods import Unavailable
from plora import BaseModel, Basis, Engine, Example
from plora.encoder import Encoder
from plora.examples import MicroBatch, Row, encode_all
from plora.kept import Kept
from plora.links import LabelLink
from plora.lowrank import Layout
from plora.passes import Passes, passes

KEPT_BYTES = 1 << 29
"""What the lower blocks gave, kept for as long as a voice lives: fits and answers of all shots share it."""


class Voice(Protocol):
    """A kind of personal numbers."""

    @property
    def engine(self) -> Engine: ...

    def logits(self, run: Passes, batch: MicroBatch, numbers: Tensor) -> Tensor:
        """(rows, labels) log-probabilities; numbers: (rows, n), each row's own."""
        ...


class VectorVoice:
    """Numbers are a user vector of the Basis."""

    def __init__(self, base: BaseModel, basis: Basis) -> None:
        self.engine = engine_of(base, basis)

    def logits(self, run: Passes, batch: MicroBatch, numbers: Tensor) -> Tensor:
        return run.logits(batch, numbers)


class LowRankVoice:
    """Numbers are the user's own A and B for every target of the Basis."""

    def __init__(self, base: BaseModel, basis: Basis, rank: int, alpha: float) -> None:
        self.engine = engine_of(base, basis)
        self.layout = Layout.of(basis, rank, alpha)

    def logits(self, run: Passes, batch: MicroBatch, numbers: Tensor) -> Tensor:
        return run.logits(batch, None, self.layout.changes(numbers))


class PromptVoice:
    """Numbers are one more token's hidden state, put after the first token where block `entry` begins."""

    def __init__(self, base: BaseModel, basis: Basis, entry: int | None = None) -> None:
        """`entry` None is the first adapted block. Raises Unavailable where the model is no BERT-like classifier."""
        self.engine = Engine(base, basis)
        if self.engine.encoder is None or self.engine.link is None:
            raise Unavailable("a soft prompt needs a BERT-like classifier")
        self._encoder: Encoder = self.engine.encoder
        self._link: LabelLink = self.engine.link
        self.entry = self.engine.first_block if entry is None else entry
        self._kept = Kept(KEPT_BYTES)

    def logits(self, run: Passes, batch: MicroBatch, numbers: Tensor) -> Tensor:  # noqa: ARG002
        hidden = self.entering(batch)
        hidden = torch.cat([hidden[:, :1], numbers[:, None], hidden[:, 1:]], 1)  # (rows, 1 + length, width)
        mask = torch.cat([torch.ones_like(batch.mask[:, :1]), batch.mask], 1)
        raw = self._encoder.finish(hidden, mask, None, self.entry)
        return self._link.log_chances(self._link.free(raw.double()))

    @torch.no_grad()
    def entering(self, batch: MicroBatch) -> Tensor:
        """(rows, length, width): what enters block `entry`, without a prompt."""
        real, lengths = len(batch.index), batch.mask.sum(1).tolist()
        shape = tuple(batch.ids.shape)
        keys = [(tuple(ids[:n]), shape, self.entry) for ids, n in zip(batch.ids[:real].tolist(), lengths, strict=False)]
        hidden = self._kept.take(keys, len(batch.ids))
        if hidden is None:
            hidden = self._encoder.begin(batch.ids, batch.mask, self.entry)
            self._kept.put(keys, hidden)
        return hidden


def engine_of(base: BaseModel, basis: Basis) -> Engine:
    """An engine that keeps what its lower blocks gave as long as it lives."""
    engine = Engine(base, basis)
    engine.kept = Kept(KEPT_BYTES)
    return engine


def learned(voice: Voice, users: Sequence[Sequence[Example]]) -> list[list[Row]]:
    """The users' examples as the model reads them; their labels are the Basis's."""
    engine = voice.engine
    return [encode_all(engine.base, engine.basis, examples) for examples in users]


def asked(voice: Voice, users: Sequence[Sequence[Example]]) -> list[list[Row]]:
    """The users' texts alone: what their targets are is not looked at."""
    label = voice.engine.basis.labels[0]
    return learned(voice, [[Example(example.text, label) for example in examples] for examples in users])


@torch.no_grad()
def answers(voice: Voice, users: Sequence[Sequence[Row]], numbers: Tensor) -> tuple[Tensor, ...]:
    """(rows, labels) log-probabilities, float64, for each user; numbers: (users, n)."""
    counts = [len(rows) for rows in users]
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))
    found = torch.zeros(len(owner), len(voice.engine.basis.labels), dtype=torch.float64)
    with passes(voice.engine, [row for rows in users for row in rows]) as run:
        for batch in run.batches():
            logits = voice.logits(run, batch, spread(numbers, owner, batch))
            found[batch.index] = logits[: len(batch.index)].double().log_softmax(-1).cpu()
    return torch.split(found, counts)


def spread(numbers: Tensor, owner: Tensor, batch: MicroBatch) -> Tensor:
    """(rows, n) of a batch out of (users, n), zeros for its blanks; owner: (all rows,)."""
    rows = numbers.new_zeros(batch.ids.shape[0], numbers.shape[1])
    rows[: len(batch.index)] = numbers[owner[batch.index]]
    return rows.to(batch.ids.device)
