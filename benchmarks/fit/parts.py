"""What is measured beside the frontier: each part by name."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import plora
from benchmarks.fit.decoder import decoders
from benchmarks.fit.derivatives import derivatives
from benchmarks.fit.frontier import Comparison
from benchmarks.fit.growth import grow
from benchmarks.fit.plan import Plan
from benchmarks.fit.refitting import refits
from benchmarks.fit.rows import Row
from benchmarks.fit.source import Source

REFIT_PART, GROWTH_PART = "last-2", "last-1"


class Absent(Exception):
    """A part cannot be measured here."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Found:
    """Rows for the main table, lines of the scale-out table, and bytes of what is kept for a user."""

    rows: list[Row] = field(default_factory=list)
    scale: list[dict[str, object]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


Part = Callable[[Plan, Source, Sequence[Comparison], Path], Found]


def _refit(plan: Plan, _: Source, comparisons: Sequence[Comparison], __: Path) -> Found:
    able = [one for one in comparisons if REFIT_PART in one.bases]
    if not able:
        raise Absent(f"no Basis of the part {REFIT_PART} was trained in this run")
    rows, sizes = refits(plan, able[0], REFIT_PART)
    return Found(rows, sizes=sizes)


def _growth(plan: Plan, _: Source, comparisons: Sequence[Comparison], out: Path) -> Found:
    able = [one for one in comparisons if GROWTH_PART in one.bases]
    if not able:
        raise Absent(f"no Basis of the part {GROWTH_PART} was trained in this run")
    file = out / "bases" / "growth.basis"
    file.write_bytes(plora.dumps(able[0].bases[GROWTH_PART].basis))
    return Found(grow(plan.model, file, plan.growth, plan.threads, plan.seed))


def _decoder(plan: Plan, source: Source, _: Sequence[Comparison], __: Path) -> Found:
    return Found(decoders(plan, source))


def _derivatives(plan: Plan, _: Source, comparisons: Sequence[Comparison], __: Path) -> Found:
    if not comparisons:
        raise Absent("no Basis was trained in this run")
    return Found(derivatives(plan, comparisons))


def _overhead(plan: Plan, _: Source, __: Sequence[Comparison], ___: Path) -> Found:
    """A daemon, its database and its trainers, as a host meets them."""
    if importlib.util.find_spec("benchmarks.fit.overhead") is None:
        raise Absent("benchmarks/fit/overhead.py is not there")
    measure = importlib.import_module("benchmarks.fit.overhead").measure
    return Found(scale=[measure(plan.overhead_users, 16, replicas) for replicas in plan.replicas])


PARTS: Mapping[str, Part] = {
    "derivatives": _derivatives,
    "refit": _refit,
    "growth": _growth,
    "decoder": _decoder,
    "overhead": _overhead,
}
