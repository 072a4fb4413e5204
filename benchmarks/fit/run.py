"""One run: every part of the plan in turn; what cannot be measured here is skipped with its reason."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.fit import machine, parts
from benchmarks.fit.frontier import Comparison
from benchmarks.fit.peers import PeftAbsent, require_peft
from benchmarks.fit.people import GENERATED, Crowd, DataAbsent, gather
from benchmarks.fit.plan import Plan
from benchmarks.fit.plot import PlotAbsent, draw
from benchmarks.fit.report import write
from benchmarks.fit.rows import Row
from benchmarks.fit.source import Source, open_source
from benchmarks.fit.tally import tally

PEERS = ("peft", "trainer", "peft-tuned")
Say = Callable[[str], None]


class Run:
    """What has been measured so far; written out after every part, so that a killed run leaves what it had."""

    def __init__(self, plan: Plan, out: Path, say: Say) -> None:
        self.plan, self.out, self.say = plan, out, say
        self.rows: list[Row] = []
        self.skipped: dict[str, str] = {}
        self.choices: dict[str, dict[str, float]] = {}
        self.bases: list[dict[str, str | float | bool]] = []
        self.sizes: dict[str, int] = {}
        self.scale: list[dict[str, object]] = []
        self.machine = machine.describe(plan.seed, plan.threads)
        self.start = time.perf_counter()
        if torch.cuda.is_available() is False:
            self.skipped["GPU"] = "no GPU at hand"

    def frontier(self, source: Source) -> list[Comparison]:
        """Every setting of every data set at hand; generated people where no real data is."""
        plan = self._without_absent(self.plan)
        made: list[Comparison] = []
        for dataset in dict.fromkeys(setting.dataset for setting in plan.settings):
            crowd = self._gathered(dataset)
            if crowd is None:
                continue
            comparison = Comparison(source, crowd, plan, self.out, self.say)
            made.append(comparison)
            self._bases(dataset, comparison)
            for setting in plan.settings:
                if setting.dataset != dataset:
                    continue
                compared = comparison.run(setting)
                self.choices[f"{dataset}, {setting.examples} examples"] = compared.choices
                self.rows += tally(compared, plan.clock, plan.seed)
                self.write(f"{dataset}, {setting.examples} examples a user")
        return made

    def others(self, source: Source, comparisons: list[Comparison]) -> None:
        for part in self.plan.parts:
            try:
                found = parts.PARTS[part](self.plan, source, comparisons, self.out)
            except parts.Absent as error:
                self.skipped[part] = str(error)
                continue
            self.rows += found.rows
            self.scale += found.scale
            self.sizes |= found.sizes
            self.write(part)

    def write(self, done: str) -> None:
        seconds = time.perf_counter() - self.start
        self.say(f"{seconds:6.0f} s: {done}")
        facts = {
            "machine": self.machine,
            "clock": self.plan.clock.value,
            "model": self.plan.model,
            "skipped": self.skipped,
            "choices": self.choices,
            "bases": self.bases,
            "scale": self.scale,
            "bytes": self.sizes,
            "took_s": round(seconds, 1),
        }
        write(self.out, self.rows, facts)

    def _without_absent(self, plan: Plan) -> Plan:
        """The plan on generated people where none of its real data sets is at hand."""
        datasets = tuple(dict.fromkeys(setting.dataset for setting in plan.settings))
        if any(self._gathered(dataset) for dataset in datasets):
            return plan
        self.skipped["real data"] = "people are generated instead"
        return plan.only((GENERATED,))

    def _gathered(self, dataset: str) -> Crowd | None:
        try:
            return gather(dataset, self.plan.sizes, self.plan.seed)
        except DataAbsent as error:
            self.skipped[dataset] = str(error)
            return None

    def _bases(self, dataset: str, comparison: Comparison) -> None:
        for part, made in comparison.bases.items():
            self.bases.append({"dataset": dataset, "basis": part, "seconds": made.seconds, "fresh": made.fresh})


def run(plan: Plan, out: Path, say: Say) -> list[Row]:
    """Measure everything in `plan`, write it under `out`, and return the rows."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(plan.threads)
    source = open_source(plan.model)
    going = Run(_able(plan, say), out, say)
    going.skipped |= _unable(plan)
    going.others(source, going.frontier(source))
    try:
        draw(going.rows, out / "fit.png")
    except PlotAbsent as error:
        going.skipped["plot"] = str(error)
    going.write("done")
    return going.rows


def _unable(plan: Plan) -> dict[str, str]:
    try:
        require_peft()
    except PeftAbsent as error:
        return {name: str(error) for name in PEERS if name in plan.modes}
    return {}


def _able(plan: Plan, say: Say) -> Plan:
    """Without the modes whose packages are missing."""
    missing = _unable(plan)
    for name, why in missing.items():
        say(f"{name}: {why}")
    return replace(plan, modes=tuple(mode for mode in plan.modes if mode not in missing))
