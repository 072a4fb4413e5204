"""One data set: a Basis of a population, a temperature learnt there, and newcomers whose answers are judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from time import perf_counter

import plora
from benchmarks.calibration.answers import Judged, accuracy_at, calibrated, held_at, lowered, worth
from benchmarks.calibration.reasons import reasons
from benchmarks.calibration.report import Found, Side
from benchmarks.leakage.people import Person, people
from benchmarks.quality.source import DataSet
from daemon.calibrating import learn
from plora import BaseModel, Calibration, Example, Fitted, User


@dataclass(frozen=True, slots=True)
class Sizes:
    """Newcomers learn `learn` rows and answer `test` texts; the reasons of `explained` of them are checked."""

    population: int = 40
    rows: int = 32
    newcomers: int = 40
    learn: int = 16
    test: int = 24
    explained: int = 6
    max_tokens: int = 64


QUICK = Sizes(population=24, rows=24, newcomers=16, learn=8, test=16, explained=4)


def measure(base: BaseModel, data: DataSet, sizes: Sizes, seed: int) -> Found:
    """All figures. Nothing that is learnt here has met the newcomers."""
    begun = perf_counter()
    everybody = people(data, seed)
    taught = [each.learn[: sizes.rows] for each in everybody[: sizes.population]]
    basis = plora.train_population(base, taught).basis
    newcomers = [
        _known(each, basis.labels, sizes) for each in everybody[sizes.population :][: sizes.newcomers] if each.test
    ]
    newcomers = [each for each in newcomers if len(each.learn) > 1 and each.test]
    calibration, speaker = learn(base, basis, taught), plora.Speaker(base, basis)
    with speaker.engine.keeping():
        made = plora.fit(base, basis, [each.learn for each in newcomers], engine=speaker.engine)
    own = [each.adapter if isinstance(each, Fitted) else None for each in made]
    sides = [
        _side("adapters", _answered(speaker, newcomers, own), calibration),
        _side("the generic model", _answered(speaker, newcomers, [None] * len(newcomers)), calibration),
    ]
    explained = [(each.learn, [one.text for one in each.test[:2]]) for each in newcomers[: sizes.explained]]
    return Found(
        name=data.name,
        people=len(newcomers),
        answers=sum(len(each.test) for each in newcomers),
        labels=len(basis.labels),
        temperature=calibration.temperature,
        learnt_on=calibration.answers,
        sides=tuple(sides),
        reasons=reasons(speaker, explained),
        seconds=perf_counter() - begun,
    )


def _known(person: Person, labels: Sequence[str], sizes: Sizes) -> Person:
    """What of a newcomer has labels that the population gave."""

    def known(rows: Sequence[Example], most: int) -> tuple[Example, ...]:
        return tuple(each for each in rows if each.target in labels)[:most]

    return Person(known(person.learn, sizes.learn), known(person.test, sizes.test))


def _answered(speaker: plora.Speaker, newcomers: Sequence[Person], users: Sequence[User]) -> list[list[Judged]]:
    rows = [(one.text, user) for each, user in zip(newcomers, users, strict=True) for one in each.test]
    answers = iter(speaker.classify(rows))
    return [[Judged(next(answers).probabilities, one.target) for one in each.test] for each in newcomers]


def _side(name: str, before: list[list[Judged]], calibration: Calibration) -> Side:
    after = calibrated(before, calibration)
    best = plora.calibrate(
        [(tuple(each.chances.values()), list(each.chances).index(each.right)) for each in chain.from_iterable(before)]
    )
    return Side(
        name,
        worth(before),
        worth(after),
        lowered(before, after),
        best.temperature,
        accuracy_at(after),
        tuple(held_at(after)),
    )
