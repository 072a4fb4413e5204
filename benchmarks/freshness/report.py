"""freshness.json, and the same as Markdown."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.fit.machine import commit, cpu
from benchmarks.freshness.visits import Visit

PACKAGES = ("torch", "ray", "fastapi", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds from the last event to the promoted adapter. `bound_s` is for the percentile of that number."""

    what: str
    newcomers: int
    promoted: int
    judged: int
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float
    judged_p95_s: float
    bound: int
    bound_s: float

    @property
    def holds(self) -> bool:
        return self.judged == self.newcomers and (self.p50_s if self.bound == 50 else self.p95_s) <= self.bound_s


def row_of(what: str, visits: Sequence[Visit], bound: int, bound_s: float) -> Row:
    """The percentiles of those who were promoted; those who were judged at all stand beside."""
    judged = sorted(each.seconds for each in visits if each.seconds is not None)
    promoted = sorted(each.seconds for each in visits if each.seconds is not None and each.promoted)
    return Row(
        what,
        newcomers=len(visits),
        promoted=len(promoted),
        judged=len(judged),
        p50_s=round(statistics.median(promoted), 2),
        p95_s=_percentile(promoted, 95),
        p99_s=_percentile(promoted, 99),
        max_s=_percentile(promoted, 100),
        judged_p95_s=_percentile(judged, 95),
        bound=bound,
        bound_s=bound_s,
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The least value that so many percent do not exceed."""
    return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)], 2)


def describe(command: str) -> dict[str, object]:
    """What it was measured on."""
    return {
        "cpu": cpu(),
        "cores": os.cpu_count() or 1,
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "command": command,
        "commit": commit(),
    }


def write(out: Path, rows: Sequence[Row], machine: Mapping[str, object]) -> str:
    """Both files under `out`; the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    body = {"rows": [asdict(each) | {"holds": each.holds} for each in rows], "machine": machine}
    (out / "freshness.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    told = markdown(rows, machine)
    (out / "freshness.md").write_text(told)
    return told


def markdown(rows: Sequence[Row], machine: Mapping[str, object]) -> str:
    head = "| | newcomers | promoted | p50, s | p95, s | p99, s | longest, s | judged at all: p95, s | needed |"
    lines = [
        f"| {each.what} | {each.newcomers} | {each.promoted} | {each.p50_s:.2f} | {each.p95_s:.2f} | {each.p99_s:.2f} "
        f"| {each.max_s:.2f} | {each.judged_p95_s:.2f} | p{each.bound} at most {each.bound_s:g} |"
        for each in rows
    ]
    measured = "Measured on: " + ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    title = "# From the last event to the promoted adapter"
    return "\n\n".join([title, measured + ".", "\n".join([head, "|---" + "|---:" * 7 + "|---|", *lines])]) + "\n"
