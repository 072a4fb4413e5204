"""From raw folds to rows: users averaged over seeds first, intervals by paired bootstrap over users."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.fit.stats import Interval
from benchmarks.quality.bootstrap import Bootstrap
from benchmarks.quality.settings import ALL, ZERO
from benchmarks.quality.text.raws import Raw

Figure = str | int | float | None
Line = dict[str, Figure]

ALONE = ("generic", "language_model")
"""Methods that know no user."""

AGAINST = {"generic": "delta_generic", "language_model": "delta_model", "cache": "delta_cache", "ours": "delta_ours"}
"""A method, and the field that holds bits per token more than it; below 0 is better than it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One method after some shots, on one data set: each user's mean over seeds."""

    bits: dict[str, float]
    seeds: int
    seconds: float
    bytes: float


Key = tuple[str, str, int]
"""Data set, method, shots."""


def rows(raws: Sequence[Raw], bootstrap: Bootstrap) -> list[Line]:
    """One line for each data set, method and shots, in the order they were measured."""
    cells = _cells(raws)
    learned = {raw.dataset: _mean(n for one in raws if one.dataset == raw.dataset for n in one.learned) for raw in raws}
    tokens = {raw.dataset: _mean(n for one in raws if one.dataset == raw.dataset for n in one.tokens) for raw in raws}
    found: list[Line] = []
    for (dataset, method, shots), cell in cells.items():
        line: Line = {
            "dataset": dataset,
            "regime": "zero" if shots == ZERO else "few",
            "shots": shots,
            "method": method,
            "users": len(cell.bits),
            "seeds": cell.seeds,
            "learned": learned[dataset] if shots == ALL else float(shots),
            "tokens": tokens[dataset],
            "seconds_per_user": cell.seconds,
            "bytes_per_user": cell.bytes,
        }
        line |= _named("bits", _interval(list(cell.bits.values()), bootstrap))
        for other, name in AGAINST.items():
            base = cells.get((dataset, other, ZERO if other in ALONE else shots))
            shared = [user for user in cell.bits if base is not None and user in base.bits]
            if base is None or not shared or other == method:
                line |= {name: None, f"{name}_low": None, f"{name}_high": None}
            else:
                line |= _named(name, _interval([cell.bits[u] - base.bits[u] for u in shared], bootstrap))
        found.append(line)
    return found


def _cells(raws: Sequence[Raw]) -> dict[Key, Cell]:
    bits: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    costs: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    for raw in raws:
        for said in raw.said:
            key = (raw.dataset, said.method, said.shots)
            costs[key].append((said.seconds, float(said.bytes)))
            for user, value in zip(raw.users, said.bits, strict=True):
                bits[key][user].append(value)
    return {
        key: Cell(
            {user: _mean(values) for user, values in sorted(of_users.items())},
            len(costs[key]),
            _mean(seconds for seconds, _ in costs[key]),
            _mean(size for _, size in costs[key]),
        )
        for key, of_users in bits.items()
    }


def _interval(values: Sequence[float], bootstrap: Bootstrap) -> Interval:
    return bootstrap.of(len(values)).mean(np.asarray(values))


def _named(name: str, found: Interval) -> Line:
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def _mean(values: object) -> float:
    return float(np.mean(list(values)))  # type: ignore[call-overload]
