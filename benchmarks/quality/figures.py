"""The figures that decide whether it was worth it: one line each, with an interval over users."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit.stats import Interval
from benchmarks.quality.bootstrap import Bootstrap
from benchmarks.quality.parts import shots_name
from benchmarks.quality.registry import CONTROLS
from benchmarks.quality.settings import ALL, ZERO
from benchmarks.quality.tally import Cell, Cells, Place, by_user, users_of

Array = NDArray[np.float64]

ALLOWED_LOSS = 0.005
"""Nats that the interval must exclude where ours is held against a baseline."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`reached` is None where `needed` is no bar for this line, or nothing could be worked out."""

    figure: str
    dataset: str
    place: str
    value: float | None
    low: float | None
    high: float | None
    needed: str = ""
    reached: bool | None = None
    note: str = ""

    def to_dict(self) -> dict[str, str | float | bool | None]:
        """Ready for JSON."""
        return asdict(self)


class Board:
    """Works figures out of the cells of one data set."""

    def __init__(self, dataset: str, cells: Cells, bootstrap: Bootstrap) -> None:
        self.dataset, self._bootstrap = dataset, bootstrap
        self._cells = {place: found for place, found in cells.items() if place.dataset == dataset}

    def all(self) -> list[Figure]:
        found = []
        for regime, shots in (("few", 8), ("few", ALL), ("full", ALL)):
            for subject in ("ours", "ours_gated"):
                found += [self.worst_baseline(regime, shots, subject), self.over_prior(regime, shots, subject)]
            found += [self.wrong_user(regime, shots), self.harmed(regime, shots, "ours")]
            found += [self.harmed(regime, shots, "ours_gated"), self.kept_by_gate(regime, shots)]
        found += [self.newcomers(8), self.zero(), self.size()]
        return [figure for figure in found if figure is not None]

    def worst_baseline(self, regime: str, shots: int, subject: str) -> Figure | None:
        """NLL of `subject` less that of the baseline it is worst beside, by the interval's upper end."""
        beside = self._beside(regime, shots)
        rivals = [name for name in beside if not name.startswith("ours") and name not in CONTROLS]
        if subject not in beside or not rivals:
            return None
        found = {name: self._difference(beside[subject], beside[name]) for name in rivals}
        worst = max(found, key=lambda name: _high(found[name]))
        needed, reached = f"upper end <= {ALLOWED_LOSS}", _high(found[worst]) <= ALLOWED_LOSS
        what = f"{subject} less the baseline it is worst beside, nats"
        return self._figure(what, (regime, shots), found[worst], (needed, reached), worst)

    def over_prior(self, regime: str, shots: int, subject: str) -> Figure | None:
        beside = self._beside(regime, shots)
        if not {subject, "label_prior"} <= beside.keys():
            return None
        found = self._difference(beside[subject], beside["label_prior"])
        bar = ("upper end < 0 where the signal is of content", _high(found) < 0)
        return self._figure(f"{subject} less generic + label prior, nats", (regime, shots), found, bar)

    def wrong_user(self, regime: str, shots: int) -> Figure | None:
        """The share of ours' gain over generic + prior that is gone with a wrong user's vector."""
        beside = self._beside(regime, shots)
        if not {"ours", "label_prior", "wrong_user"} <= beside.keys():
            return None
        ours, prior, wrong = beside["ours"], beside["label_prior"], beside["wrong_user"]
        both = sorted(ours.told.keys() & prior.told.keys() & wrong.told.keys())
        lost = by_user(both, lambda s: wrong.measured[s].nll - ours.measured[s].nll)
        gain = by_user(both, lambda s: prior.measured[s].nll - ours.measured[s].nll)
        found = self._bootstrap.of(len(gain)).ratio(lost, gain)
        reached = None if found.mean != found.mean else found.mean >= 0.8
        note = "" if reached is not None else "no gain over generic + prior to lose"
        return self._figure(
            "share of the gain that a wrong user loses", (regime, shots), found, (">= 0.8", reached), note
        )

    def harmed(self, regime: str, shots: int, subject: str) -> Figure | None:
        """Users significantly worse than generic."""
        beside = self._beside(regime, shots)
        if not {subject, "generic"} <= beside.keys():
            return None
        cell, generic = beside[subject], beside["generic"]
        both = cell & generic
        found = self._bootstrap.of(users_of(both)).mean(by_user(both, lambda s: float(cell.verdict(generic, s) < 0)))
        bar = ("<= 0.02", found.mean <= 0.02) if subject == "ours_gated" else ("", None)
        return self._figure(f"share of users harmed by {subject}", (regime, shots), found, bar)

    def kept_by_gate(self, regime: str, shots: int) -> Figure | None:
        """The gated gain over that of an oracle which serves ours wherever the test split says that it is better."""
        beside = self._beside(regime, shots)
        if not {"ours", "ours_gated", "generic"} <= beside.keys():
            return None
        ours, gated, generic = beside["ours"], beside["ours_gated"], beside["generic"]
        both = sorted(ours.told.keys() & gated.told.keys() & generic.told.keys())
        kept = by_user(both, lambda s: generic.measured[s].nll - gated.measured[s].nll)
        oracle = by_user(both, lambda s: max(0.0, generic.measured[s].nll - ours.measured[s].nll))
        found = self._bootstrap.of(len(kept)).ratio(kept, oracle)
        return self._figure("gain kept by the gate, of an oracle's", (regime, shots), found, _at_least(found, 0.9))

    def newcomers(self, shots: int) -> Figure | None:
        """Newcomers' gain over generic against that of the population's users; a user may be in either or both."""
        new, old = self._beside("few", shots), self._beside("full", ALL)
        if not {"ours", "generic"} <= new.keys() & old.keys():
            return None
        gains = [_gains(beside["ours"], beside["generic"]) for beside in (new, old)]
        users = sorted(gains[0].keys() | gains[1].keys())
        means = [np.array([of.get(user, float("nan")) for user in users]) for of in gains]
        found = self._bootstrap.of(len(users)).ratio(means[0], means[1])
        return self._figure("newcomers' gain, of full-shot users'", ("few", shots), found, _at_least(found, 0.7))

    def zero(self) -> Figure | None:
        """Nobody's vector on our Basis less plain LoRA."""
        beside = self._beside("zero", ZERO)
        if not {"generic", "plain_lora"} <= beside.keys():
            return None
        found = self._difference(beside["generic"], beside["plain_lora"])
        bar = (f"upper end <= {ALLOWED_LOSS}", _high(found) <= ALLOWED_LOSS)
        return self._figure("zero-shot users less plain LoRA, nats", ("zero", ZERO), found, bar)

    def size(self) -> Figure | None:
        beside = self._beside("few", ALL)
        if "ours" not in beside:
            return None
        size = float(np.mean(beside["ours"].bytes))
        found = Interval(size, float("nan"), float("nan"))
        return self._figure("bytes of a user", ("few", ALL), found, ("<= 512", size <= 512))

    def _beside(self, regime: str, shots: int) -> Mapping[str, Cell]:
        return self._cells.get(Place(self.dataset, regime, shots), {})

    def _difference(self, cell: Cell, rival: Cell) -> Interval:
        both = cell & rival
        return self._bootstrap.of(users_of(both)).mean(
            by_user(both, lambda s: cell.measured[s].nll - rival.measured[s].nll)
        )

    def _figure(
        self, what: str, place: tuple[str, int], found: Interval, bar: tuple[str, bool | None], note: str = ""
    ) -> Figure:
        value, low, high = (None if end != end else end for end in (found.mean, found.low, found.high))  # noqa: PLR0124
        return Figure(what, self.dataset, _name(*place), value, low, high, bar[0], bar[1], note)


def figures(cells: Cells, bootstrap: Bootstrap) -> list[Figure]:
    """Of every data set in turn."""
    datasets = dict.fromkeys(place.dataset for place in cells)
    return [figure for dataset in datasets for figure in Board(dataset, cells, bootstrap).all()]


def _gains(cell: Cell, generic: Cell) -> dict[str, float]:
    """Each user's mean over seeds of generic's NLL less the cell's."""
    found: dict[str, list[float]] = {}
    for sitting in cell & generic:
        found.setdefault(sitting[0], []).append(generic.measured[sitting].nll - cell.measured[sitting].nll)
    return {user: float(np.mean(values)) for user, values in found.items()}


def _at_least(found: Interval, bar: float) -> tuple[str, bool | None]:
    return f">= {bar}", None if found.mean != found.mean else found.mean >= bar


def _high(found: Interval) -> float:
    """The upper end; where there is no interval, the mean."""
    return found.mean if found.high != found.high else found.high


def _name(regime: str, shots: int) -> str:
    return f"{regime}/{shots_name(shots)}"
