"""What a model says of every token of people's answers, under anybody's vector."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from plora import Engine, Example
from plora.examples import IGNORE, Row, encode_all
from plora.passes import passes, take


@dataclass(frozen=True, slots=True)
class Answers:
    """The rows of people's examples; `owner` (rows,) says whose each is."""

    rows: tuple[Row, ...] = field(repr=False)
    owner: Tensor = field(repr=False)
    people: int

    def tokens(self, person: int) -> list[tuple[int, ...]]:
        """The answers of one of them as tokens, the end of each included."""
        return [answer(row) for row, whose in zip(self.rows, self.owner.tolist(), strict=True) if whose == person]

    def per_person(self, chances: Sequence[Tensor]) -> list[Tensor]:
        """Each person's (tokens,) of `chances`, which has one tensor for each row."""
        owner = self.owner.tolist()
        parts = [[c for c, whose in zip(chances, owner, strict=True) if whose == one] for one in range(self.people)]
        return [torch.cat(each) if each else torch.zeros(0, dtype=torch.float64) for each in parts]


def answer(row: Row) -> tuple[int, ...]:
    return row.ids[row.target :]


def answers(engine: Engine, people: Sequence[Sequence[Example]]) -> Answers:
    """The examples as rows, in order."""
    rows = [row for each in people for row in encode_all(engine.base, engine.basis, each)]
    owner = torch.repeat_interleave(torch.arange(len(people)), torch.tensor([len(each) for each in people]))
    return Answers(tuple(rows), owner, len(people))


@torch.no_grad()
def log_chances(engine: Engine, asked: Answers, vectors: Tensor | None) -> list[Tensor]:
    """One (answer tokens,) of natural logs in float64 for each row; vectors: (people, d), or None for generic."""
    found = [torch.zeros(0, dtype=torch.float64)] * len(asked.rows)
    own = None if vectors is None else vectors[asked.owner]
    with passes(engine, asked.rows) as run:
        for batch in run.batches():
            logits = run.logits(batch, None if own is None else take(own, batch))[:, :-1]
            wanted = batch.targets[:, 1:] != IGNORE
            losses = F.cross_entropy(logits[wanted].float(), batch.targets[:, 1:][wanted], reduction="none")
            parts = torch.split(-losses.double().cpu(), wanted.sum(1).tolist())
            for row, part in zip(batch.index.tolist(), parts, strict=False):  # blanks come last
                found[row] = part
    return found


def bits_per_token(chances: Tensor) -> float:
    """Mean over tokens of -log2; chances: (tokens,)."""
    return float(-chances.clamp_min(1e-30).log2().mean())
