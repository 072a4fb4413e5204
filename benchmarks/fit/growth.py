"""One call with more and more users: seconds a user and memory, each call in a process of its own.

python -m benchmarks.fit.growth MODEL BASIS USERS THREADS SEED  prints one call's figures as JSON.
"""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

import plora
from benchmarks.fit.modes import Cohort
from benchmarks.fit.rows import Row
from benchmarks.fit.source import open_source
from benchmarks.fit.stopwatch import measure
from benchmarks.fit.words import text
from plora import Engine, Example, FitSettings, Precision

EXAMPLES, TOKENS = 4, 16
LEAST_S = 2.0
REPEATED = 1000
"""Calls up to so many users are measured twice, the second time in the opposite order."""


@dataclass(frozen=True, slots=True)
class Grown:
    """One call's seconds a user, passes, and the memory that it needed above what was there before it."""

    users: int
    cpu_s: float
    wall_s: float
    passes: float
    peak_mb: float | None


def grow(model: str, basis: Path, sizes: Sequence[int], threads: int, seed: int) -> list[Row]:
    """A row for each size: medians of calls, smallest first and then back again."""
    order = [*sizes, *reversed([size for size in sizes if size <= REPEATED])]
    calls = [_spawn(model, basis, size, threads, seed) for size in order]
    rows = []
    for size in sizes:
        mine = [call for call in calls if call.users == size]
        seconds = median(call.cpu_s if threads == 1 else call.wall_s for call in mine)
        peaks = [call.peak_mb for call in mine if call.peak_mb is not None]
        rows.append(
            Row(
                part="growth",
                mode="newton",
                users=size,
                examples_per_user=EXAMPLES,
                basis="last-1",
                precision="bf16",
                tokens_per_user=float(EXAMPLES * TOKENS),
                users_per_s=1 / seconds,
                seconds_per_user=seconds,
                wall_s_per_user=median(call.wall_s for call in mine),
                cpu_s_per_user=median(call.cpu_s for call in mine),
                rounds=len(mine),
                passes=mine[0].passes,
                peak_mb=max(peaks) if peaks else None,
            )
        )
    return rows


def call(model: str, basis: Path, users: int, threads: int, seed: int) -> Grown:
    """Fit `users` in this process, in one call, after a call with one user has warmed everything."""
    torch.set_num_threads(threads)
    source = open_source(model)
    loaded = plora.loads_basis(basis.read_bytes())
    engine = Engine(source.base, loaded, Precision.BF16)
    settings = FitSettings(precision=Precision.BF16)
    plora.fit(source.base, loaded, _cohort(loaded.labels, 1, seed + 1), settings, engine=engine)
    cohort = _cohort(loaded.labels, users, seed)
    taken = measure(lambda: plora.fit(source.base, loaded, cohort, settings, engine=engine), least_s=LEAST_S)
    fitted = [one for one in taken.outcome if isinstance(one, plora.Fitted)]
    passes = sum(one.passes for one in fitted) / len(fitted)
    return Grown(users, taken.cpu_s / users, taken.wall_s / users, passes, taken.peak_mb)


def _cohort(labels: Sequence[str], users: int, seed: int) -> Cohort:
    """Texts of TOKENS tokens that hardly ever occur twice: two are for the frame, the words are one token each."""
    draw = random.Random(seed)
    return [[Example(text(draw, TOKENS - 2), draw.choice(labels)) for _ in range(EXAMPLES)] for _ in range(users)]


def _spawn(model: str, basis: Path, users: int, threads: int, seed: int) -> Grown:
    words = [sys.executable, "-m", "benchmarks.fit.growth", model, str(basis), str(users), str(threads), str(seed)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return Grown(**json.loads(done.stdout.splitlines()[-1]))


def main(words: Sequence[str]) -> None:
    model, basis, users, threads, seed = words
    grown = call(model, Path(basis), int(users), int(threads), int(seed))
    print(json.dumps({name: getattr(grown, name) for name in Grown.__slots__}))


if __name__ == "__main__":
    main(sys.argv[1:])
