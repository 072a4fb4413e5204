"""The regimes of a fold: who answers, after how many of their rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.quality.folds import Fold, Person
from benchmarks.quality.settings import ALL, ZERO, Settings


@dataclass(frozen=True, slots=True)
class Part:
    """`known` people are of the population that trained the Basis, and learn from all their rows again."""

    regime: str
    shots: int

    @property
    def known(self) -> bool:
        return self.regime == "full"

    @property
    def key(self) -> str:
        return f"{self.regime}/{shots_name(self.shots)}"


def shots_name(shots: int) -> str:
    return "all" if shots == ALL else str(shots)


def parts(settings: Settings) -> tuple[Part, ...]:
    """Zero shots, a few, all of a newcomer's rows, and the population's own."""
    few = [Part("few", shots) for shots in (*settings.shots, ALL)]
    return Part("zero", ZERO), *few, Part("full", ALL)


def people_of(fold: Fold, part: Part, settings: Settings) -> Sequence[Person]:
    return fold.population[: settings.full_people] if part.known else fold.newcomers
