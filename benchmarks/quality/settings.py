"""How much is measured, and on whom: everything that can change a figure but the methods themselves."""

from dataclasses import dataclass, field, replace

from plora import FitSettings, PopulationSettings
from plora.links import Link

ALL = -1
"""Shots of somebody who learns from every row there is."""

ZERO = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """Seeds come in folds of three; after the given `shots` newcomers also learn from all their rows.

    `people` of a data set take part, each with at most so many rows to learn from and to be tested on. Of a fold's
    population all train the Basis and at most `full_people` are measured. `wrong_users` strangers stand in for each
    user; `draws` are of the bootstrap, and are reported, not measured.
    """

    seeds: tuple[int, ...] = (10, 11, 12)
    shots: tuple[int, ...] = (2, 4, 8, 16)
    people: int = 150
    rows_per_user: int = 64
    tests_per_user: int = 64
    full_people: int = 50
    max_tokens: int = 128
    ordinal: bool = False
    wrong_users: int = 3
    draws: int = 4000
    model: str = "minilm"
    threads: int = 1
    quick: bool = False
    population: PopulationSettings = field(default_factory=PopulationSettings)
    fit: FitSettings = field(default_factory=FitSettings)

    @property
    def last_layers(self) -> int | None:
        """How many of the model's last blocks every method adapts; None is all of them."""
        return self.population.last_layers

    @property
    def epochs(self) -> int:
        """How often every method's shared part sees the population's rows."""
        return self.population.epochs

    def link(self, *, ordered: bool) -> Link:
        """What our population training scores labels with."""
        return Link.ORDINAL if ordered and self.ordinal else Link.CATEGORICAL


def quick() -> Settings:
    """One fold of few people: the shape of everything, too few users for the intervals to say much."""
    small = replace(PopulationSettings(), epochs=3)
    return Settings(
        seeds=(10,),
        shots=(4, 8),
        people=30,
        rows_per_user=16,
        tests_per_user=16,
        full_people=10,
        max_tokens=64,
        draws=1000,
        quick=True,
        population=small,
    )
