"""Who of a free-text data set trains the model, who is new to it, and on whom the mixture's weights are chosen."""

from dataclasses import dataclass, field

from benchmarks.quality.folds import Fold, Person, TooFew, parted
from benchmarks.quality.source import DataSet
from benchmarks.quality.text.settings import TextSettings
from plora import Example


@dataclass(frozen=True, slots=True)
class Group:
    """A fold's people. Of `tuners` only rows to learn from are used, and nothing is trained on these either."""

    fold: Fold = field(repr=False)
    trainers: tuple[Person, ...] = field(repr=False)
    tuners: tuple[Person, ...] = field(repr=False)

    @property
    def newcomers(self) -> tuple[Person, ...]:
        return self.fold.newcomers


def make(data: DataSet, seed: int, settings: TextSettings) -> Group:
    """As `folds.make`, with targets that need not be known. Raises TooFew."""
    population, newcomers = parted(data, seed, settings)
    known, new = tuple(population), tuple(newcomers)
    tuners = max(1, len(known) // settings.tuners)
    if len(known) < 4 or len(new) < 2:
        raise TooFew(
            data.name, f"has {len(known) + len(new)} users with rows to learn from and rows to test on, 6 needed"
        )
    return Group(Fold(data.name, seed, (), False, known, new), known[:-tuners], known[-tuners:])


def halves(person: Person, shots: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """A tuner's rows, some to learn from (the first `shots`, three quarters at most) and the others for a test."""
    most = max(1, 3 * len(person.learn) // 4)
    at = most if shots < 0 else min(shots, most)
    return person.learn[:at], person.learn[at:]
