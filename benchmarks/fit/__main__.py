"""python -m benchmarks.fit --out DIR [--quick]: measure, and write fit.json, fit.md and fit.png."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.fit.people import GENERATED
from benchmarks.fit.plan import MODES, PARTS, REAL, Plan, full, quick
from benchmarks.fit.run import run
from benchmarks.fit.stopwatch import Clock


def main(words: list[str]) -> int:
    """Exit status 0, or 2 where the command line is wrong."""
    plan, out = _plan(words)
    rows = run(plan, out, lambda line: print(line, file=sys.stderr, flush=True))
    print((out / "fit.md").read_text())
    return 0 if rows else 1


def _plan(words: list[str]) -> tuple[Plan, Path]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit", description="What fitting a user costs.")
    parser.add_argument("--out", type=Path, required=True, help="folder for fit.json, fit.md, fit.png and the Bases")
    parser.add_argument("--quick", action="store_true", help="under five minutes, with wide intervals")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads in what is timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=[clock.value for clock in Clock], help="cpu with one thread, else wall")
    parser.add_argument("--modes", help=f"some of {','.join(MODES)}")
    parser.add_argument("--parts", help=f"some of {','.join(PARTS)}, or none")
    parser.add_argument("--dataset", help=f"some of {','.join((*REAL, GENERATED))}")
    parser.add_argument("--model", default="minilm", help="minilm, or a folder with a classifier")
    given = parser.parse_args(words)
    clock = Clock(given.clock) if given.clock else Clock.CPU if given.threads == 1 else Clock.WALL
    plan = replace(
        quick() if given.quick else full(), threads=given.threads, seed=given.seed, clock=clock, model=given.model
    )
    if given.modes:
        plan = replace(plan, modes=_chosen(parser, given.modes, MODES))
    if given.parts:
        plan = replace(plan, parts=() if given.parts == "none" else _chosen(parser, given.parts, PARTS))
    if given.dataset:
        plan = plan.only(_chosen(parser, given.dataset, (*REAL, GENERATED)))
    return plan, given.out


def _chosen(parser: argparse.ArgumentParser, given: str, known: tuple[str, ...]) -> tuple[str, ...]:
    words = tuple(given.split(","))
    for word in words:
        if word not in known:
            parser.error(f"{word!r} is not one of {', '.join(known)}")
    return words


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
