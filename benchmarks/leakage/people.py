"""Who is audited: a population that a Basis is trained on, and newcomers, each with rows in a drawn order."""

import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.quality.source import DataSet
from plora import Example


@dataclass(frozen=True, slots=True)
class Person:
    """Rows to learn from, and rows on other texts to be judged on."""

    learn: tuple[Example, ...] = field(repr=False)
    test: tuple[Example, ...] = field(repr=False)


def people(data: DataSet, seed: int) -> list[Person]:
    """Everybody in an order that depends on names and `seed` alone."""
    rows: defaultdict[str, tuple[list[Example], list[Example]]] = defaultdict(lambda: ([], []))
    for row in data.rows:
        rows[row.user][row.split == "test"].append(Example(row.text, row.label))
    found = []
    for user in sorted(rows, key=lambda user: hashlib.sha256(f"{seed}:{user}".encode()).digest()):
        learn, test = rows[user]
        random.Random(f"{seed}:{user}").shuffle(learn)
        found.append(Person(tuple(learn), tuple(test)))
    return found
