"""A mode: one way to make adapters for users, told their examples and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from plora import Example

Cohort = Sequence[Sequence[Example]]
"""The examples of each of several users."""

Judge = Callable[[Cohort], list[list[float]]]
"""Each user's losses on held-out examples, in nats, under what was made for that user."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a mode made for a cohort: passes per user, and how it is judged. `vectors` (users, d) are plora's own."""

    passes: float
    judge: Judge | None = field(default=None, repr=False)
    vectors: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Mode:
    """`share` is how many users of a round's cohort it is given: the dearest get few."""

    name: str
    fit: Callable[[Cohort], Made] = field(repr=False)
    basis: str = ""
    precision: str = "fp32"
    share: int | None = None
    repeat: bool = True

    @property
    def key(self) -> str:
        return "/".join(part for part in (self.name, self.basis, self.precision) if part)
