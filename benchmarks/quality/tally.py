"""From raw results to rows: each person's figures, their mean over seeds, and intervals over people."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit.stats import Interval
from benchmarks.quality.bootstrap import Bootstrap, Draws
from benchmarks.quality.metrics import Measured, Told, measure, verdict
from benchmarks.quality.raws import Raw
from benchmarks.quality.registry import METHODS
from benchmarks.quality.rows import MEASURES, Row

Array = NDArray[np.float64]
Sitting = tuple[str, int]
"""A user's pseudonym and a seed: one time that the user was measured."""

RIVALS = {"delta_nll": "generic", "delta_prior": "label_prior", "delta_ours": "ours"}


@dataclass(frozen=True, slots=True)
class Place:
    """One part of one data set."""

    dataset: str
    regime: str
    shots: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A method in one place: every sitting's tests and figures, and each seed's costs of one person."""

    told: Mapping[Sitting, Told] = field(repr=False)
    measured: Mapping[Sitting, Measured] = field(repr=False)
    seconds: tuple[float, ...]
    bytes: tuple[float, ...]

    def __and__(self, other: "Cell") -> list[Sitting]:
        """The sittings both have."""
        return sorted(self.told.keys() & other.told.keys())

    def verdict(self, rival: "Cell", sitting: Sitting) -> int:
        """1 where this method is significantly better than `rival` on the sitting's tests, -1 worse, else 0."""
        return verdict(self.told[sitting].nll, rival.told[sitting].nll)


Cells = Mapping[Place, Mapping[str, Cell]]


def cells(raws: Sequence[Raw]) -> Cells:
    """Everything that was measured, by place and method, the parts in their order."""
    found: dict[Place, dict[str, list[tuple[Raw, str]]]] = defaultdict(lambda: defaultdict(list))
    for raw in sorted((raw for raw in raws if raw.method in METHODS), key=lambda raw: (raw.dataset, raw.seed)):
        for part, answered in raw.parts.items():
            if answered is not None:
                found[place_of(raw.dataset, part)][raw.method].append((raw, part))
    ranked = sorted(found.items(), key=lambda item: _rank(item[0]))
    order = [*METHODS]
    return {
        place: {method: _cell(by_method[method]) for method in sorted(by_method, key=order.index)}
        for place, by_method in ranked
    }


def rows(found: Cells, bootstrap: Bootstrap) -> list[Row]:
    """One row for each method in each place."""
    return [_row(place, method, beside, bootstrap) for place, beside in found.items() for method in beside]


def by_user(sittings: Sequence[Sitting], value: Callable[[Sitting], float]) -> Array:
    """(users,) the mean of each user's sittings, users in a fixed order."""
    found: dict[str, list[float]] = {}
    for sitting in sorted(sittings):
        found.setdefault(sitting[0], []).append(value(sitting))
    return np.array([np.mean(values) for values in found.values()])


def bins_by_user(cell: Cell) -> Array:
    """(users, bins, 3)."""
    found: dict[str, list[Array]] = {}
    for sitting in sorted(cell.measured):
        found.setdefault(sitting[0], []).append(cell.measured[sitting].bins)
    return np.stack([np.mean(values, 0) for values in found.values()])


def users_of(sittings: Iterable[Sitting]) -> int:
    return len({user for user, _ in sittings})


def place_of(dataset: str, part: str) -> Place:
    regime, _, shots = part.partition("/")
    return Place(dataset, regime, -1 if shots == "all" else int(shots))


def _rank(place: Place) -> tuple[str, int, float]:
    return (
        place.dataset,
        ("zero", "few", "full").index(place.regime),
        float("inf") if place.shots < 0 else place.shots,
    )


def _cell(parts: Sequence[tuple[Raw, str]]) -> Cell:
    told: dict[Sitting, Told] = {}
    measured: dict[Sitting, Measured] = {}
    seconds, sizes = [], []
    for raw, part in parts:
        answered = raw.parts[part]
        if answered is None:
            continue
        grades = [float(label) for label in raw.labels] if raw.ordinal else None
        seconds.append(answered.seconds)
        sizes.append(float(answered.bytes))
        for one in answered.people:
            told[one.user, raw.seed] = one
            measured[one.user, raw.seed] = measure(one, grades)
    return Cell(told, measured, tuple(seconds), tuple(sizes))


def _row(place: Place, method: str, beside: Mapping[str, Cell], bootstrap: Bootstrap) -> Row:
    cell = beside[method]
    sittings = sorted(cell.told)
    draws = bootstrap.of(users_of(sittings))
    found: dict[str, float | None] = {}
    for name in MEASURES[:-1]:
        _put(found, name, draws.mean(by_user(sittings, _measure_of(cell, name))))
    _put(found, "ece", draws.calibration(bins_by_user(cell)))
    _put(found, "promoted_share", draws.mean(by_user(sittings, lambda s: float(cell.told[s].served))))
    for name, rival in RIVALS.items():
        if rival in beside and (both := cell & beside[rival]):
            _put(found, name, bootstrap.of(users_of(both)).mean(by_user(both, _less(cell, beside[rival]))))
    if "generic" in beside and (both := cell & beside["generic"]):
        _against(found, cell, beside["generic"], both, bootstrap.of(users_of(both)))
    return Row(
        dataset=place.dataset,
        regime=place.regime,
        shots=place.shots,
        method=method,
        users=len(draws.whole),
        seeds=len({seed for _, seed in sittings}),
        learned=float(by_user(sittings, lambda s: float(cell.told[s].learned)).mean()),
        tests=float(by_user(sittings, lambda s: float(len(cell.told[s].truth))).mean()),
        seconds_per_user=float(np.mean(cell.seconds)),
        bytes_per_user=float(np.mean(cell.bytes)),
        **found,
    )


def _against(found: dict[str, float | None], cell: Cell, generic: Cell, both: Sequence[Sitting], draws: Draws) -> None:
    """What is only known beside the generic model."""
    verdicts = {s: cell.verdict(generic, s) for s in both}
    for name, wanted in (("win", 1), ("tie", 0), ("loss", -1)):
        found[name] = float(by_user(both, partial(_is, verdicts, wanted)).mean())
    _put(found, "harmed_share", draws.mean(by_user(both, partial(_is, verdicts, -1))))
    served = by_user(both, lambda s: float(cell.told[s].served))
    gains = by_user(both, lambda s: cell.told[s].served * -_less(cell, generic)(s))
    _put(found, "gain_promoted", draws.ratio(gains, served))


def _is(verdicts: Mapping[Sitting, int], wanted: int, sitting: Sitting) -> float:
    return float(verdicts[sitting] == wanted)


def _measure_of(cell: Cell, name: str) -> Callable[[Sitting], float]:
    return lambda sitting: float(getattr(cell.measured[sitting], name))


def _less(cell: Cell, rival: Cell) -> Callable[[Sitting], float]:
    return lambda sitting: cell.measured[sitting].nll - rival.measured[sitting].nll


def _put(found: dict[str, float | None], name: str, interval: Interval) -> None:
    """NaN is no figure: None."""
    for end, value in (("", interval.mean), ("_low", interval.low), ("_high", interval.high)):
        found[name + end] = None if value != value else value  # noqa: PLR0124 - NaN
