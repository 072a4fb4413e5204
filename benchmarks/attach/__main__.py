"""python -m benchmarks.attach --out DIR [--quick] [--subjects minilm,decoder]: write attach.json and attach.md."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.attach import exact, loading, mixed
from benchmarks.attach.report import LOW, VECTOR, Found, write
from benchmarks.attach.subjects import SUBJECTS, Subject
from benchmarks.fit.machine import describe
from benchmarks.fit.peers import PeftAbsent, require_peft


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything. `held` is how many residents the last one is put among."""

    rows: int = 64
    puts: int = 2_000
    low_rank_puts: int = 500
    held: int = 100_000
    turns: int = 1_000
    rounds: int = 11
    compared: int = 16
    alone: bool = True


QUICK = Plan(puts=500, low_rank_puts=100, held=20_000, turns=300, rounds=3, compared=8, alone=False)

Say = Callable[[str], None]


def main(words: Sequence[str]) -> int:
    """Exit status 0 where every bound holds, 1 where one does not, 2 where the command line is wrong."""
    given = _parsed(words)
    torch.set_num_threads(given.threads)
    machine = describe(0, given.threads) | {
        "command": "python -m benchmarks.attach --out DIR" + (" --quick" if given.quick else "")
    }
    found = Found()
    for name in given.subjects.split(","):
        run(SUBJECTS[name](), QUICK if given.quick else Plan(), found, lambda said: print(said, file=sys.stderr))
    told, holds = write(given.out, found, machine)
    print(told)
    return 0 if holds else 1


def run(subject: Subject, plan: Plan, found: Found, say: Say) -> None:
    """Everything about one subject; without PEFT where it is not installed."""
    vectors, low_ranks = subject.vectors(1_000, 5), subject.low_ranks(plan.rows, 6)
    say(f"{subject.name}: waits")
    sealed = loading.Sealed(vectors)
    found.waits.append(loading.ours(subject, sealed, VECTOR, plan.puts))
    found.waits.append(loading.ours(subject, loading.Sealed(low_ranks), LOW, plan.low_rank_puts))
    found.growth.append(loading.growth(subject, sealed, plan.held, plan.turns))
    batches = mixed.Batches(subject, vectors[: plan.rows], low_ranks)
    with tempfile.TemporaryDirectory(prefix="plora-bench-") as folder:
        try:
            require_peft()
        except PeftAbsent as absent:
            say(str(absent))
            model = None
        else:
            waits, model = loading.peft(subject, low_ranks, Path(folder))
            found.waits += waits
            found.from_peft[subject.name] = exact.against_peft(batches, model, low_ranks)
        say(f"{subject.name}: batches of {plan.rows}")
        found.mixed += mixed.measure(batches, model, plan.rounds, plan.alone)
    say(f"{subject.name}: the same answers")
    found.exact += exact.measure(batches, plan.compared)


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attach", description="What attaching a user costs.")
    parser.add_argument("--out", type=Path, required=True, help="folder for attach.json and attach.md")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: for a look, not for figures")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads in what is timed")
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help=f"some of {','.join(SUBJECTS)}")
    given = parser.parse_args(words)
    for name in given.subjects.split(","):
        if name not in SUBJECTS:
            parser.error(f"{name!r} is not one of {', '.join(SUBJECTS)}")
    return given


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
