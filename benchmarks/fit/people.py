"""Whose examples are learned from and who is judged: real people where their rows are at hand, else generated ones.

Three groups that share nobody: the population a Basis is trained on, the users on whom every tuning choice is made
(learning rates, stopping points), and the users that are reported.
"""

import gzip
import json
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from daemon.demo.generator import people, reactions
from plora import Example

ENVIRONMENT = "PLORA_DATA"
USUAL_PLACE = Path(__file__).parents[3] / "shared" / "data"
GENERATED = "generated"
ORDERED = ("jester", "studemo_arousal")
"""Data sets whose labels are grades."""


class DataAbsent(Exception):
    """A data set's file is not where it was looked for."""

    def __init__(self, dataset: str, folder: str) -> None:
        super().__init__(dataset, folder)
        self.dataset, self.folder = dataset, folder

    def __str__(self) -> str:
        return f"{self.dataset}.jsonl.gz is not in {self.folder}; name its folder in {ENVIRONMENT}"


@dataclass(frozen=True, slots=True)
class User:
    """What one user teaches, in the order it is taken, and what it is judged by."""

    learned: tuple[Example, ...] = field(repr=False)
    held_out: tuple[Example, ...] = field(repr=False)

    def first(self, examples: int) -> tuple[Example, ...]:
        return self.learned[:examples]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many users each group has; `test` caps a user's held-out examples, `learned` what it must have to learn.

    Where there are fewer users, each of the population gives more examples, so that as many are learned from.
    """

    population: int
    population_examples: int
    tuning: int
    reported: int
    learned: int
    test: int


@dataclass(frozen=True, slots=True)
class Crowd:
    """The three groups of one data set."""

    dataset: str
    labels: tuple[str, ...]
    population: tuple[tuple[Example, ...], ...] = field(repr=False)
    tuning: tuple[User, ...] = field(repr=False)
    reported: tuple[User, ...] = field(repr=False)


def folder() -> Path:
    return Path(os.environ.get(ENVIRONMENT) or USUAL_PLACE)


def gather(dataset: str, sizes: Sizes, seed: int) -> Crowd:
    """Raises DataAbsent where the data set is real and its file is not at hand."""
    users = _generated(sizes, seed) if dataset == GENERATED else _read(dataset)
    able = [user for user in users if len(user.learned) >= 0.8 * sizes.learned and user.held_out]
    each = sizes.population * sizes.population_examples // max(1, _shares(len(able), sizes)[0])
    draw = random.Random(f"{dataset}/{seed}")
    draw.shuffle(able)
    population, tuning, reported = _shares(len(able), sizes)
    known = {example.target for user in able[:population] for example in user.learned}
    shuffled = [_shuffled(user, sizes.test, known, draw) for user in able]
    return Crowd(
        dataset,
        tuple(sorted(known)),
        tuple(user.first(each) for user in shuffled[:population]),
        tuple(shuffled[population : population + tuning]),
        tuple(shuffled[population + tuning : population + tuning + reported]),
    )


def _shares(able: int, sizes: Sizes) -> tuple[int, int, int]:
    """Everybody asked for, or, where there are too few, half for the population and an eighth for tuning."""
    if able >= sizes.population + sizes.tuning + sizes.reported:
        return sizes.population, sizes.tuning, sizes.reported
    population = min(sizes.population, able // 2)
    tuning = min(sizes.tuning, max(1, able // 8))
    return population, tuning, min(sizes.reported, able - population - tuning)


def _shuffled(user: User, test: int, known: set[str], draw: random.Random) -> User:
    """In an order of its own; labels that the population never gave cannot be learned or judged."""
    learned = [example for example in user.learned if example.target in known]
    held_out = [example for example in user.held_out if example.target in known]
    draw.shuffle(learned)
    draw.shuffle(held_out)
    return User(tuple(learned), tuple(held_out[:test]))


def _read(dataset: str) -> list[User]:
    path = folder() / f"{dataset}.jsonl.gz"
    if not path.is_file():
        raise DataAbsent(dataset, str(folder()))
    found: dict[str, tuple[list[Example], list[Example]]] = defaultdict(lambda: ([], []))
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            found[row["user"]][row["split"] == "test"].append(Example(row["text"], str(row["label"])))
    return [User(tuple(learned), tuple(held_out)) for _, (learned, held_out) in sorted(found.items())]


def _generated(sizes: Sizes, seed: int) -> list[User]:
    learned = max(sizes.learned, sizes.population_examples)
    made = []
    for person in people(sizes.population + sizes.tuning + sizes.reported, seed):
        shown: Sequence[Example] = [Example(r.text, r.label) for r in reactions(person, learned + sizes.test, seed)]
        made.append(User(tuple(shown[:learned]), tuple(shown[learned:])))
    return made
