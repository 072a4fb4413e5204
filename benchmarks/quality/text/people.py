"""Who of a free-text data set trains the model, who is new to it, and on whom the mixture's weights are chosen."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.quality.folds import FOLDS, TEST_PERCENT, Fold, Person, TooFew
from benchmarks.quality.source import DataSet, Row
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
    by_user: dict[str, list[Row]] = {}
    for row in data.rows:
        by_user.setdefault(row.user, []).append(row)
    able = [user for user, rows in by_user.items() if {_is_test(row) for row in rows} == {False, True}]
    first, fold = seed - (seed - 1) % FOLDS, (seed - 1) % FOLDS
    ranked = sorted(able, key=lambda user: (_hash(f"{first}:{user}"), user))[: settings.people]
    people = [_person(user, by_user[user], seed, settings) for user in ranked]
    known = tuple(person for at, person in enumerate(people) if at % FOLDS != fold)
    new = tuple(person for at, person in enumerate(people) if at % FOLDS == fold)
    tuners = max(1, len(known) // settings.tuners)
    if len(known) < 4 or len(new) < 2:
        raise TooFew(data.name, f"has {len(people)} users with rows to learn from and rows to test on, 6 needed")
    return Group(Fold(data.name, seed, (), False, known, new), known[:-tuners], known[-tuners:])


def halves(person: Person, shots: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """A tuner's rows, some to learn from (the first `shots`, three quarters at most) and the others for a test."""
    most = max(1, 3 * len(person.learn) // 4)
    at = most if shots < 0 else min(shots, most)
    return person.learn[:at], person.learn[at:]


def _person(user: str, rows: Sequence[Row], seed: int, settings: TextSettings) -> Person:
    learn = sorted((row for row in rows if not _is_test(row)), key=lambda row: _order(f"{seed}:{user}", row))
    test = sorted((row for row in rows if _is_test(row)), key=lambda row: _order(f"test:{user}", row))
    return Person(user, _examples(learn[: settings.rows_per_user]), _examples(test[: settings.tests_per_user]))


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
