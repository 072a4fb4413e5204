"""A fold within the population, on which a method's strengths are chosen: step sizes, the weight of a ridge.

Some people of the population play newcomers and a part of the texts plays tests; whatever a method shares is trained
anew on the others' other rows. To choose on rows that the shared part was trained on would pass off too large steps as
good ones. Nothing here is a newcomer's row or a test.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.quality.folds import Fold, Person
from benchmarks.quality.settings import ALL
from benchmarks.quality.shared import Shared
from plora import Example

PEOPLE = 16
SHARE = 4
"""One in so many people plays newcomer, one in so many texts plays test."""

TESTS = 32
FEW, MANY = 4, 16
"""Shots that strengths are chosen at, for those who have up to 8 and up to 32; beyond, all that the people have."""


@lru_cache(maxsize=1)
def trial(shared: Shared) -> Shared | None:
    """What methods share on the inner fold, trained for half of the epochs; None where the population is too small."""
    fold = inner(shared.fold)
    if fold is None:
        return None
    settings = shared.settings
    half = replace(settings.population, epochs=max(1, (settings.epochs + 1) // 2))
    return Shared(fold, replace(settings, population=half))


class Choice:
    """The one of `among` that costs the trial's newcomers least, by `cost(trial, shots, value)`; worked out when asked.

    Where there is no trial it is the middle one.
    """

    def __init__(self, shared: Shared, among: Sequence[float], cost: Callable[[Shared, int, float], float]) -> None:
        self._shared, self._among, self._cost = shared, tuple(among), cost
        self.made: dict[int, float] = {}

    def at(self, shots: int) -> float:
        anchor = ALL if shots == ALL or shots > 2 * MANY else FEW if shots <= 2 * FEW else MANY
        if anchor not in self.made:
            inner = trial(self._shared)
            costs = {} if inner is None else {value: self._cost(inner, anchor, value) for value in self._among}
            self.made[anchor] = min(costs, key=costs.__getitem__, default=self._among[len(self._among) // 2])
        return self.made[anchor]


def mean_loss(chances: Sequence[Tensor], fold: Fold) -> float:
    """What a trial's newcomers' tests cost: the mean over people of their mean negative log-likelihood, in nats."""
    total = 0.0
    for said, person in zip(chances, fold.newcomers, strict=True):
        targets = torch.tensor([fold.labels.index(example.target) for example in person.test])
        total -= float(said.gather(1, targets[:, None]).mean())
    return total / max(1, len(fold.newcomers))


def inner(fold: Fold) -> Fold | None:
    """The fold within the population; its newcomers all have rows to learn from and rows to be tried on."""
    people = [_split(person) for person in fold.population]
    new = people[-min(PEOPLE, len(people) // SHARE) :] if len(people) >= SHARE else []
    known = people[: len(people) - len(new)]
    labels = {example.target for person in known for example in person.learn}
    newcomers = tuple(one for one in (_only(person, labels) for person in new) if one.learn and one.test)
    if len(labels) < 2 or not newcomers:
        return None
    kept = tuple(label for label in fold.labels if label in labels)
    return replace(fold, labels=kept, population=tuple(known), newcomers=newcomers)


def _split(person: Person) -> Person:
    """The rows to learn from, some of their texts for trying; a text is on one side for everybody."""
    learn = tuple(example for example in person.learn if not _is_tried(example))
    return Person(person.name, learn, tuple(example for example in person.learn if _is_tried(example)))


def _is_tried(example: Example) -> bool:
    return hashlib.sha256(f"trial:{example.text}".encode()).digest()[0] % SHARE == 0


def _only(person: Person, labels: set[str]) -> Person:
    def able(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(example for example in examples if example.target in labels)

    return Person(person.name, able(person.learn), able(person.test)[:TESTS])
