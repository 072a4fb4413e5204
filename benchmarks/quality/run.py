"""One run: every fold in a process of its own, then everything under the output folder in one report."""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from enum import Enum
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.fit import machine
from benchmarks.fit.plot import PlotAbsent
from benchmarks.quality import folds, raws
from benchmarks.quality.bootstrap import Bootstrap
from benchmarks.quality.figures import figures
from benchmarks.quality.measuring import Order, explained, measure_fold
from benchmarks.quality.plot import draw
from benchmarks.quality.raws import Raw
from benchmarks.quality.report import write
from benchmarks.quality.settings import Settings
from benchmarks.quality.source import DataSet, read_all
from benchmarks.quality.tally import cells, rows

Say = Callable[[str], None]

FACTS = "facts.json"
"""What a run says of itself, kept beside the raw results for a later report."""

SEED = 0
"""Of the bootstrap."""

HERE = 0
"""Processes: fold after fold in this one."""


class MissingRun(Exception):
    """A report was asked for where nothing has been measured."""

    def __init__(self, out: str) -> None:
        super().__init__(out)
        self.out = out

    def __str__(self) -> str:
        return f"{self.out} holds no results to report: run without --report first"


@dataclass(frozen=True, slots=True)
class Plan:
    """Which files are measured by which methods, `jobs` folds at once; `text` says whether free text is too."""

    files: tuple[Path, ...]
    methods: tuple[str, ...]
    settings: Settings
    jobs: int = 1
    text: bool = True


def run(plan: Plan, out: Path, say: Say) -> dict[str, object]:
    """Measure what is not measured yet under `out`, report everything there; quality.json's body without its rows.

    Raises DataError, before anything is measured, where a file is wrong.
    """
    out.mkdir(parents=True, exist_ok=True)
    read_sets = read_all(plan.files)
    chosen = [pair for pair in zip(plan.files, read_sets, strict=True) if not pair[1].free_text]
    written = [data for data in read_sets if data.free_text]
    torch.set_num_threads(plan.settings.threads)
    facts = _facts(plan, read_sets, out)
    skipped = _measure(plan, chosen, out, str(facts["commit"]), say)
    facts |= _texts(plan, written, out, skipped)
    (out / FACTS).write_text(json.dumps(facts | {"unmade": skipped}, indent=1, sort_keys=True) + "\n")
    return report(out, say)


def report(out: Path, say: Say) -> dict[str, object]:
    """quality.json, quality.md and the pictures from the raw results under `out`. Raises MissingRun."""
    try:
        facts: dict[str, object] = json.loads((out / FACTS).read_text())
    except (OSError, ValueError):
        raise MissingRun(str(out)) from None
    found, stale = _alike(raws.read_all(out))
    skipped = {**_mapping(facts.pop("unmade")), **stale}
    skipped |= {f"{raw.method} on {raw.dataset}, seed {raw.seed}": raw.absent for raw in found if raw.absent}
    failed = {f"{raw.method} on {raw.dataset}, seed {raw.seed}": raw.failed for raw in found if raw.failed}
    if text_failed := str(facts.pop("text_failed")):
        failed["free text"] = text_failed
    bootstrap = Bootstrap(SEED, int(str(_mapping(facts["settings"])["draws"])))
    tallied = cells(found)
    lines = rows(tallied, bootstrap)
    facts |= {"skipped": skipped, "failed": failed, "commits": sorted({raw.commit or "" for raw in found})}
    try:
        facts["pictures"] = [file.name for file in draw(lines, tallied, out)]
    except PlotAbsent as error:
        skipped["pictures"] = str(error)
    write(out, lines, figures(tallied, bootstrap), facts)
    say(f"{len(lines)} rows in {out / 'quality.json'}")
    return facts


def _measure(plan: Plan, chosen: Sequence[tuple[Path, DataSet]], out: Path, commit: str, say: Say) -> dict[str, str]:
    """Why a fold could not be made, by its name."""
    skipped: dict[str, str] = {}
    orders = []
    for seed in plan.settings.seeds:
        for file, data in chosen:
            try:
                folds.make(data, seed, plan.settings)
            except folds.TooFew as error:
                skipped[f"{data.name}, seed {seed}"] = str(error)
                continue
            orders.append(Order(file, seed, plan.methods, plan.settings, out, commit))
    if plan.jobs == HERE:
        for order in orders:
            measure_fold(order, say)
        return skipped
    with ProcessPoolExecutor(plan.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting = {pool.submit(measure_fold, order, _say): order for order in orders}
        for done in as_completed(waiting):
            name = f"{waiting[done].file.name}, seed {waiting[done].seed}"
            try:
                done.result()
            except BrokenProcessPool:
                skipped[name] = "its process was killed, perhaps for want of memory: run again, it goes on from there"
            say(f"{name}: done")
    return skipped


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _texts(plan: Plan, written: Sequence[DataSet], out: Path, skipped: dict[str, str]) -> dict[str, object]:
    """The rows of the free-text data sets, those of the run before where none are measured now."""
    before = {name: found for name, found in _before(out).items() if name in ("text_rows", "text_failed")}
    if not written or not plan.text:
        skipped |= {data.name: "free text was not asked for" for data in written}
        return {"text_rows": [], "text_failed": ""} | before
    if importlib.util.find_spec("benchmarks.quality.text") is None:
        skipped |= {data.name: "its labels are free text, which is not measured here" for data in written}
        return {"text_rows": [], "text_failed": ""}
    try:
        text = importlib.import_module("benchmarks.quality.text")
        return {"text_rows": list(text.run(written, out, plan.settings)), "text_failed": ""}
    except Exception as error:  # noqa: BLE001 - the other data sets' figures must not be lost
        return {"text_rows": [], "text_failed": explained(error)}


def _facts(plan: Plan, read_sets: Sequence[DataSet], out: Path) -> dict[str, object]:
    described = machine.describe(plan.settings.seeds[0], plan.settings.threads)
    described["command"] = " ".join(["python -m benchmarks.quality", *sys.argv[1:]])
    before = _before(out)
    return {
        "machine": described,
        "commit": described["commit"],
        "settings": _plain(asdict(plan.settings)),
        "datasets": _mapping(before.get("datasets")) | {data.name: _described(data) for data in read_sets},
    }


def _before(out: Path) -> dict[str, object]:
    try:
        return _mapping(json.loads((out / FACTS).read_text()))
    except (OSError, ValueError):
        return {}


def _described(data: DataSet) -> dict[str, object]:
    labels = {row.label for row in data.rows}
    return {
        "users": len({row.user for row in data.rows}),
        "rows": len(data.rows),
        "texts": len({row.text for row in data.rows}),
        "labels": len(labels),
        "ordinal": data.ordinal,
        "free_text": data.free_text,
        "sha256": data.digest,
    }


def _alike(found: Sequence[Raw]) -> tuple[list[Raw], dict[str, str]]:
    """Of each fold the results of one key, that of the most methods; the others are named with the reason."""
    by_fold: dict[tuple[str, int], list[Raw]] = {}
    for raw in found:
        by_fold.setdefault((raw.dataset, raw.seed), []).append(raw)
    kept, stale = [], {}
    for (dataset, seed), together in by_fold.items():
        keys = [raw.key for raw in together]
        usual = max(sorted(set(keys)), key=keys.count)
        kept += [raw for raw in together if raw.key == usual]
        for raw in together:
            if raw.key != usual:
                stale[f"{raw.method} on {dataset}, seed {seed}"] = (
                    "its results are of other data or settings: run it again"
                )
    return kept, stale


def _plain(value: object) -> object:
    """Ready for JSON."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}
