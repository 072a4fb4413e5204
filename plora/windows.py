"""A population read in windows: so many examples at once as tokens, however many users there are.

A population is read several times, always in the same order: once to count, then once or more in every epoch. Of all
users together only counts are kept; of the texts, those of one window.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .basemodel import BaseModel
from .basis import Basis, Kind
from .errors import ChangedPopulation, NothingToLearn, UnorderedLabels
from .examples import Example, Row, encode
from .links import Link

Users = Iterable[Sequence[Example]]
"""Every user's examples. Each `iter` must begin anew: a list, or an object that reads from elsewhere."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What one reading of a population found: its labels, and (users,) how many examples each user has."""

    labels: tuple[str, ...] = field(repr=False)
    counts: Tensor
    ends: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", self.counts.cumsum(0))

    @property
    def users(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def owners(self, index: Tensor) -> Tensor:
        """Which user each of these rows belongs to; rows are counted over the whole population."""
        return torch.searchsorted(self.ends, index, right=True)


@dataclass(frozen=True, slots=True)
class Window:
    """Rows from number `first` on."""

    first: int
    rows: list[Row] = field(repr=False)

    def row(self, index: int) -> Row:
        return self.rows[index - self.first]


def survey(population: Users, kind: Kind, link: Link) -> Survey:
    """Raises NothingToLearn, and UnorderedLabels where an ordinal link meets a label that is no number."""
    labels: set[str] = set()
    counts: list[int] = []
    for examples in population:
        counts.append(len(examples))
        labels |= {example.target for example in examples} if kind is Kind.CLASSIFICATION else set()
    if not sum(counts):
        raise NothingToLearn("the population has no examples")
    if kind is Kind.CLASSIFICATION and len(labels) < 2:
        raise NothingToLearn("all examples have the same label")
    return Survey(ordered(labels, link), torch.tensor(counts))


def ordered(labels: Iterable[str], link: Link) -> tuple[str, ...]:
    """By their number where they are ordinal, else by the alphabet. Raises UnorderedLabels."""
    if link is Link.CATEGORICAL:
        return tuple(sorted(labels))
    try:
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    except ValueError:
        raise UnorderedLabels from None  # the cause would quote the label


class Windows:
    """Reads `population` window by window, encoded for `basis`. One window alone is kept between readings."""

    def __init__(self, base: BaseModel, basis: Basis, population: Users, found: Survey, size: int) -> None:
        self._base, self._basis, self._population, self._survey = base, basis, population, found
        self._size = size
        self._only: Window | None = None

    def __iter__(self) -> Iterator[Window]:
        """Raises ChangedPopulation where it is not what was surveyed."""
        if self._only is not None:
            yield self._only
            return
        first, rows, users = 0, list[Row](), 0
        for user, examples in enumerate(self._population):
            if user >= self._survey.users or len(examples) != int(self._survey.counts[user]):
                raise ChangedPopulation
            rows += [encode(self._base, self._basis, example) for example in examples]
            users += 1
            if len(rows) >= self._size:
                yield self._window(first, rows)
                first, rows = first + len(rows), []
        if users != self._survey.users:
            raise ChangedPopulation
        if rows:
            yield self._window(first, rows)

    def gather(self, index: Tensor) -> dict[int, Row]:
        """The rows with these numbers."""
        wanted = sorted(set(index.tolist()))
        found: dict[int, Row] = {}
        for window in self if wanted else ():
            end = window.first + len(window.rows)
            found |= {at: window.row(at) for at in wanted if window.first <= at < end}
        return found

    def _window(self, first: int, rows: list[Row]) -> Window:
        window = Window(first, rows)
        if len(rows) == self._survey.total:
            self._only = window
        return window
