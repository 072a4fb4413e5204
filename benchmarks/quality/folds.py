"""Folds: who of a data set trains the Basis and who is new to it, what they learn from and what they are tested on.

Three seeds that follow each other (10, 11, 12) shuffle alike and take a third as newcomers each, so together they make
everybody a newcomer once. What is drawn depends on hashes alone: no random state, and the same on every machine.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.quality.settings import Settings
from benchmarks.quality.source import DataError, DataSet, Row
from plora import Example
from plora.links import Link
from plora.windows import ordered

FOLDS = 3
TEST_PERCENT = 40
"""Of the texts of a file without splits; a text is on one side for everybody."""


class TooFew(DataError):
    """A data set that no fold can be made of."""

    def __init__(self, dataset: str, what: str) -> None:
        super().__init__(dataset, what)
        self.dataset, self.what = dataset, what

    def __str__(self) -> str:
        return f"{self.dataset} {self.what}"


@dataclass(frozen=True, slots=True)
class Person:
    """One user: rows to learn from, in the order they are taken, and rows to be tested on.

    Only labels of the fold are learned; a test may have another, which no method can give.
    """

    name: str = field(repr=False)
    learn: tuple[Example, ...] = field(repr=False)
    test: tuple[Example, ...] = field(repr=False)

    def first(self, shots: int) -> tuple[Example, ...]:
        """The first so many rows, all there are where they are fewer or `shots` is -1."""
        return self.learn if shots < 0 else self.learn[:shots]


@dataclass(frozen=True, slots=True)
class Fold:
    """`labels` are those the population learns from: by their number where they are `ordinal`, else by the alphabet."""

    dataset: str
    seed: int
    labels: tuple[str, ...]
    ordinal: bool
    population: tuple[Person, ...] = field(repr=False)
    newcomers: tuple[Person, ...] = field(repr=False)


class Limits(Protocol):
    """Of how many people of a data set, and how many rows of each."""

    @property
    def people(self) -> int: ...

    @property
    def rows_per_user(self) -> int: ...

    @property
    def tests_per_user(self) -> int: ...


def parted(data: DataSet, seed: int, limits: Limits) -> tuple[list[Person], list[Person]]:
    """The population and the newcomers of a fold. Raises TooFew where there are not three people."""
    by_user: dict[str, list[Row]] = {}
    for row in data.rows:
        by_user.setdefault(row.user, []).append(row)
    able = [user for user, rows in by_user.items() if {_is_test(row) for row in rows} == {False, True}]
    first, fold = seed - (seed - 1) % FOLDS, (seed - 1) % FOLDS
    ranked = sorted(able, key=lambda user: (_hash(f"{first}:{user}"), user))[: limits.people]
    if len(ranked) < FOLDS:
        raise TooFew(data.name, f"has {len(ranked)} users with rows to learn from and rows to test on, {FOLDS} needed")
    people = [_person(user, by_user[user], seed, limits) for user in ranked]
    known = [person for at, person in enumerate(people) if at % FOLDS != fold]
    return known, [person for at, person in enumerate(people) if at % FOLDS == fold]


def make(data: DataSet, seed: int, settings: Settings) -> Fold:
    """Raises TooFew where a third of the people, or their labels, are nobody or one."""
    known, new = parted(data, seed, settings)
    labels = {example.target for person in known for example in person.learn}
    if len(labels) < 2:
        raise TooFew(data.name, "has one label only in the rows that its population learns from")
    link = Link.ORDINAL if data.ordinal else Link.CATEGORICAL
    newcomers = tuple(person for person in (_only(one, labels) for one in new) if person.learn)
    if not newcomers:
        raise TooFew(data.name, "has newcomers with labels only that the population never gave")
    return Fold(data.name, seed, ordered(labels, link), data.ordinal, tuple(known), newcomers)


def digest(fold: Fold) -> str:
    """SHA-256 of all that the fold's people are and say."""
    found = hashlib.sha256(repr((fold.dataset, fold.seed, fold.labels, fold.ordinal)).encode())
    for group in (fold.population, fold.newcomers):
        for person in group:
            found.update(repr((person.name, _said(person.learn), _said(person.test))).encode())
    return found.hexdigest()


def _said(examples: Iterable[Example]) -> list[tuple[str, str]]:
    return [(example.text, example.target) for example in examples]


def _person(user: str, rows: Sequence[Row], seed: int, limits: Limits) -> Person:
    """Learned rows in the order of a hash; of the tests the first by a hash that knows no seed."""
    learn = sorted((row for row in rows if not _is_test(row)), key=lambda row: _order(f"{seed}:{user}", row))
    test = sorted((row for row in rows if _is_test(row)), key=lambda row: _order(f"test:{user}", row))
    return Person(user, _examples(learn[: limits.rows_per_user]), _examples(test[: limits.tests_per_user]))


def _only(person: Person, labels: set[str]) -> Person:
    return Person(person.name, tuple(one for one in person.learn if one.target in labels), person.test)


def _examples(rows: Sequence[Row]) -> tuple[Example, ...]:
    return tuple(Example(row.text, row.label) for row in rows)


def _is_test(row: Row) -> bool:
    if row.split is not None:
        return row.split == "test"
    return int(_hash(row.text)[:8], 16) % 100 < TEST_PERCENT


def _order(who: str, row: Row) -> tuple[str, str]:
    return _hash(f"{who}:{row.text}"), row.label


def _hash(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()
