"""A method that gives each user numbers of its own by gradient steps from one common start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from benchmarks.quality.fits import processor_seconds
from benchmarks.quality.folds import Person
from benchmarks.quality.methods import Said
from benchmarks.quality.peers.descent import Course, descend
from benchmarks.quality.peers.trial import Choice, mean_loss
from benchmarks.quality.peers.voices import Voice, answers, asked, learned
from benchmarks.quality.settings import ZERO
from benchmarks.quality.shared import Shared
from plora import Example

MOST_ROWS = 64
"""A user's rows beyond the first so many are left out."""

BYTES_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Begun:
    """A voice trained on a population, and the (n,) numbers that everybody begins with."""

    voice: Voice
    start: Tensor = field(repr=False)

    def numbers(self, users: Sequence[Sequence[Example]], course: Course) -> Tensor:
        """(users, n)."""
        return descend(
            self.voice, learned(self.voice, [examples[:MOST_ROWS] for examples in users]), self.start, course
        )

    def answers(self, people: Sequence[Person], numbers: Tensor) -> tuple[Tensor, ...]:
        return answers(self.voice, asked(self.voice, [person.test for person in people]), numbers)


class Descended:
    """`begin` trains what everybody shares; the step size is the one of `rates` that serves the trial's people best."""

    def __init__(
        self, name: str, begin: Callable[[Shared], Begun], shared: Shared, *, rates: Sequence[float], course: Course
    ) -> None:
        self.name, self.begun = name, begin(shared)
        self._begin, self._course = begin, course
        self._tried: Begun | None = None
        self.choice = Choice(shared, rates, self._cost)

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:  # noqa: ARG002
        if shots == ZERO:
            return Said(self.begun.answers(people, self.begun.start.expand(len(people), -1)), 0.0, 0)
        course = replace(self._course, rate=self.choice.at(shots))
        with processor_seconds() as spent:
            numbers = self.begun.numbers([person.first(shots) for person in people], course)
        chances = self.begun.answers(people, numbers)
        return Said(chances, spent[0] / max(1, len(people)), BYTES_PER_NUMBER * numbers.shape[1])

    def _cost(self, inner: Shared, shots: int, rate: float) -> float:
        if self._tried is None:
            self._tried = self._begin(inner)
        people = inner.fold.newcomers
        numbers = self._tried.numbers([person.first(shots) for person in people], replace(self._course, rate=rate))
        return mean_loss(self._tried.answers(people, numbers), inner.fold)
