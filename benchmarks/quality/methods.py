"""What a method is: it trains what it needs on a fold's population, and then answers for people it is given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from benchmarks.quality.folds import Person
from benchmarks.quality.shared import Shared


class Unavailable(Exception):
    """A method cannot run here; `why` is one sentence for the report, without anybody's content."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True)
class Said:
    """One tensor of log-probabilities, (tests, labels) float64, for each person in order; labels are the fold's.

    A method that stands for several alternatives gives (draws, tests, labels): its measures are the mean over draws.
    `seconds` are of the processor, for one user's fitting: neither answering nor what all share. `bytes` are what is
    stored for one user before sealing. `served`, of a method with a gate: whose own adapter it answers with.
    """

    chances: tuple[Tensor, ...] = field(repr=False)
    seconds: float
    bytes: int
    served: tuple[bool, ...] | None = None


class Method(Protocol):
    """Answers for people; trained on the population before."""

    @property
    def name(self) -> str: ...

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said | None:
        """`shots` 0 is zero-shot, k the first k of `person.learn`, -1 all of them. `known`: these are population users.

        None means that the method has no answer in this regime.
        """
        ...


class Maker(Protocol):
    """Trains what the method needs on the fold's population. Raises Unavailable."""

    def __call__(self, shared: Shared) -> Method: ...
