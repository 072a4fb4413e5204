"""Demand times unit cost, one line for each step, so that every figure can be followed and doubted."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fit.arithmetic import H200_TFLOPS, LARGER, MINILM, units, utilisation

DAY_S = 86_400
DATASET = "un_votes"
BUSY = 0.5
"""The share of its measured rate that anything is planned for at the peak."""
Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked for. A user comes due after `fresh` events, each run learns from sixteen examples."""

    users: int = 1_000_000
    events_per_day: float = 4.0
    peak: float = 4.0
    fresh: int = 8
    gpus: int = 1


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured unit costs, and where each stands."""

    http_single: float
    http_batches: float
    writes: float
    settled: float
    fit_s: float
    fit_tokens: float
    fit_passes: float
    gpu_share: float
    sizes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One step: what it is, how it comes about, and the result."""

    part: str
    what: str
    how: str
    value: float
    unit: str


def read(docs: Path, database: str = "postgres") -> Costs:
    """The unit costs on file: performance.json, store.json and capacity.json in `docs`."""
    fitted, stored, sized = (json.loads((docs / f"{name}.json").read_bytes()) for name in FILES)
    rates = {each["what"]: each["per_s"] for each in stored["rates"] if each["database"] == database}
    unit = next(each for each in units(fitted["rows"], DATASET) if each.basis == "all")
    share = utilisation(fitted["rows"], fitted["machine"], DATASET, unit.precision)
    if share is None:
        raise LookupError("performance.json holds no bare passes to compare with")
    return Costs(
        http_single=rates["HTTP: events, 16 clients"],
        http_batches=rates["HTTP: events, 16 clients, batches of 64"],
        writes=rates["events, 16 clients"],
        settled=rates["runs claimed and settled, 256 at once"],
        fit_s=unit.seconds,
        fit_tokens=unit.tokens,
        fit_passes=unit.passes,
        gpu_share=share,
        sizes={each["what"]: each["size_bytes"] for each in sized["sizes"] if each["database"] == database},
    )


FILES = ("performance", "store", "capacity")


def lines(demand: Demand, costs: Costs) -> list[Line]:
    """The whole calculation, in order."""
    return [*_ingest(demand, costs), *_training(demand, costs), *_gpus(demand, costs), *_bytes(demand, costs)]


def _ingest(demand: Demand, costs: Costs) -> Iterator[Line]:
    mean = demand.users * demand.events_per_day / DAY_S
    peak = mean * demand.peak
    yield Line(
        "events", "mean", f"{demand.users:,} users x {demand.events_per_day:g} a day / {DAY_S:,} s", mean, "a second"
    )
    yield Line("events", "peak", f"mean x {demand.peak:g}", peak, "a second")
    for name, rate in (("one by one", costs.http_single), ("in batches of 64", costs.http_batches)):
        how = f"peak / ({rate:,.0f}/s measured on two cores with its clients x {BUSY:g})"
        yield Line("events", f"daemons, events {name}", how, math.ceil(peak / (rate * BUSY)), "daemons of 2 cores")
    how = f"peak / {costs.writes:,.0f} commits/s measured with 16 writers"
    yield Line("events", "share of one PostgreSQL of 2 cores", how, peak / costs.writes, "")


def _training(demand: Demand, costs: Costs) -> Iterator[Line]:
    runs = _runs(demand)
    yield Line("runs", "peak", f"peak events / {demand.fresh} fresh events a run", runs, "a second")
    how = f"peak runs / ({costs.settled:,.0f}/s claimed and settled x {BUSY:g})"
    yield Line("runs", "share of what one database settles", how, runs / (costs.settled * BUSY), "")
    how = f"peak runs x {costs.fit_s:.3f} s a user, all blocks, bf16 / {BUSY:g}"
    yield Line("runs", "CPU cores for MiniLM", how, math.ceil(runs * costs.fit_s / BUSY), "cores")


def _gpus(demand: Demand, costs: Costs) -> Iterator[Line]:
    runs = _runs(demand)
    for model in (MINILM, *LARGER):
        flop = model.flop(costs.fit_tokens, costs.fit_passes)
        pace = H200_TFLOPS * 1e12 * costs.gpu_share / flop
        how = (
            f"{H200_TFLOPS:g} TFLOP/s published x {costs.gpu_share:.0%} reached on the CPU / "
            f"({costs.fit_tokens:.0f} tokens x {costs.fit_passes:.0f} passes x 4 x {model.weights:.3g} weights)"
        )
        yield Line(model.name, "users a second on one H200 (paper)", how, pace, "a second")
        yield Line(
            model.name, "H200s for the peak", f"peak runs / (that x {BUSY:g})", math.ceil(runs / (pace * BUSY)), "GPUs"
        )
        hours = demand.users / (pace * demand.gpus) / 3600
        yield Line(model.name, f"everybody again on {demand.gpus} H200", "users / that / GPUs", hours, "hours")


def _bytes(demand: Demand, costs: Costs) -> Iterator[Line]:
    yearly = demand.events_per_day * 365
    parts = (
        ("users", 1.0, "user"),
        ("events of a year", yearly, "event"),
        ("versions kept, 4 a user", 4.0, "run and version"),
    )
    total = 0.0
    for name, count, what in parts:
        size = demand.users * count * costs.sizes[what] / 1e9
        total += size
        how = f"{demand.users:,} x {count:g} x {costs.sizes[what]:,.0f} bytes"
        yield Line("database", name, how, size, "GB")
    yield Line("database", "in all", "the lines above", total, "GB")


def _runs(demand: Demand) -> float:
    return demand.users * demand.events_per_day / DAY_S * demand.peak / demand.fresh


def table(found: Sequence[Line]) -> str:
    """Markdown."""
    rows = [f"| {each.part} | {each.what} | {each.how} | {_shown(each.value)} {each.unit} |" for each in found]
    return "\n".join(["| | what | how | result |", "|---|---|---|---|", *(row.replace("  |", " |") for row in rows)])


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
