"""python -m benchmarks.quality --out DIR [--data FILE ...]: measure; write quality.json, quality.md and pictures."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.quality.registry import METHODS
from benchmarks.quality.run import MissingRun, Plan, report, run
from benchmarks.quality.settings import Settings, quick
from benchmarks.quality.source import DataError, find, name_of
from plora import PLoRAError

TEXT = "text"
"""The word in --methods for what is measured on free text."""


def main(words: list[str]) -> int:
    """Exit status 0; 1 where a method failed or nothing was measured; 2 where the command line or a file is wrong."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the folds' processes share the cores
    parser = _parser()
    given = parser.parse_args(words)
    try:
        facts = report(given.out, _say) if given.report else run(_plan(parser, given), given.out, _say)
    except (DataError, MissingRun, PLoRAError) as error:
        print(f"benchmarks.quality: {error}", file=sys.stderr)
        return 2
    print((given.out / "quality.md").read_text())
    return 1 if facts["failed"] or (not facts["commits"] and not facts["text_rows"]) else 0


def _parser() -> argparse.ArgumentParser:
    usual = Settings()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="What personal models are worth.")
    parser.add_argument("--out", type=Path, required=True, help="folder for results; a run goes on with what is there")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help=".jsonl(.gz) files; default all of PLORA_DATA")
    parser.add_argument("--datasets", help="only these of the files, by their names without .jsonl.gz")
    parser.add_argument("--methods", help=f"some of {','.join((*METHODS, TEXT))}")
    parser.add_argument("--seeds", help="default 10,11,12: three that follow each other make everybody a newcomer once")
    parser.add_argument("--shots", help=f"default {','.join(map(str, usual.shots))}; all of a user's rows are added")
    parser.add_argument("--quick", action="store_true", help="one fold of few people, with wide intervals")
    parser.add_argument("--report", action="store_true", help="measure nothing; report what is in --out")
    parser.add_argument("--jobs", type=int, default=1, help="folds at once, each in its own process; 0: in this one")
    parser.add_argument("--threads", type=int, help="torch's threads in each process; default 1")
    parser.add_argument("--people", type=int, help=f"of each data set; default {usual.people}")
    parser.add_argument("--rows-per-user", type=int, help=f"to learn from, at most; default {usual.rows_per_user}")
    parser.add_argument("--tests-per-user", type=int, help=f"at most; default {usual.tests_per_user}")
    parser.add_argument("--full-people", type=int, help=f"of the population measured; default {usual.full_people}")
    parser.add_argument("--max-tokens", type=int, help=f"of a text; default {usual.max_tokens}")
    parser.add_argument("--epochs", type=int, help=f"of every shared training; default {usual.epochs}")
    parser.add_argument("--last-layers", type=int, help=f"blocks adapted; default {usual.last_layers}")
    parser.add_argument("--model", help="minilm, or a folder or Hugging Face id of a classifier")
    return parser


COUNTS = ("people", "rows_per_user", "tests_per_user", "full_people", "max_tokens", "threads")
OF_POPULATION = ("epochs", "last_layers")


def _plan(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Plan:
    settings = quick() if given.quick else Settings()
    asked = vars(given)
    for name in (*COUNTS, *OF_POPULATION):
        if asked[name] is not None and asked[name] < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more")
    if given.jobs < 0:
        parser.error("--jobs must be 0 or more")
    settings = replace(settings, **{name: asked[name] for name in COUNTS if asked[name] is not None})
    chosen = {name: asked[name] for name in OF_POPULATION if asked[name] is not None}
    settings = replace(settings, population=replace(settings.population, **chosen))
    if given.model:
        settings = replace(settings, model=given.model)
    if given.seeds:
        settings = replace(settings, seeds=_numbers(parser, "--seeds", given.seeds, 0))
    if given.shots:
        settings = replace(settings, shots=_numbers(parser, "--shots", given.shots, 1))
    methods = _chosen(parser, given.methods, (*METHODS, TEXT))
    files = find(given.data)
    if given.datasets:
        names = _chosen(parser, given.datasets, tuple(name_of(file) for file in files))
        files = [file for file in files if name_of(file) in names]
    return Plan(tuple(files), tuple(m for m in methods if m != TEXT), settings, given.jobs, TEXT in methods)


def _chosen(parser: argparse.ArgumentParser, given: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """`given` in the order of `known`; all of them where nothing is given."""
    words = given.split(",") if given else known
    for word in words:
        if word not in known:
            parser.error(f"{word!r} is not one of {', '.join(known)}")
    return tuple(name for name in known if name in words)


def _numbers(parser: argparse.ArgumentParser, option: str, given: str, least: int) -> tuple[int, ...]:
    try:
        found = tuple(dict.fromkeys(int(word) for word in given.split(",")))
    except ValueError:
        parser.error(f"{option} must be whole numbers with commas between them")
    if min(found) < least:
        parser.error(f"{option} must be {least} or more")
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
