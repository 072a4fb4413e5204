"""python -m benchmarks.store --out DIR [--quick] [--parts rates,scale]: measure, and write store.json and store.md."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

from benchmarks.store import http_rates, rates, scale
from benchmarks.store.machine import describe
from benchmarks.store.places import DATABASES, Place, postgres, server, sqlite
from benchmarks.store.plans import Plan, plan_of_due
from benchmarks.store.report import Found, write
from benchmarks.store.rows import Cost, Rate

PARTS = ("rates", "http", "scale")
Row = TypeVar("Row", Rate, Cost)
QUICK_MANY = 50_000


def main(words: list[str]) -> int:
    """Exit status 0 where every bound holds, 1 where one does not, 2 where the command line is wrong."""
    given = _parsed(words)
    machine = describe()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plora-bench-")))
        admin = stack.enter_context(server(folder)) if "postgres" in given.databases else ""
        openers: dict[str, Callable[[str], AbstractContextManager[Place]]] = {
            "sqlite": sqlite,
            "postgres": lambda name: postgres(admin, name),
        }
        chosen = {name: openers[name] for name in given.databases}
        found = [_said(rate) for name, opened in chosen.items() for rate in _rates(given, name, opened, stack)]
        costs, plan = _scale(given, chosen) if "scale" in given.parts else ([], None)
    parts = {name: machine for name, rows in (("rates", found), ("costs", costs)) if rows}
    write(given.out, Found(found, costs, plan, parts))
    print((given.out / "store.md").read_text())
    held = [each.holds for each in found] + [each.holds for each in costs] + ([plan.holds] if plan else [])
    return 0 if all(held) else 1


def _rates(
    given: argparse.Namespace, name: str, opened: Callable[[str], AbstractContextManager[Place]], stack: ExitStack
) -> Iterator[Rate]:
    seconds = 1.5 if given.quick else 6.0
    if "rates" in given.parts:
        with opened(name) as place:
            yield from rates.measure(place, seconds, runs=1_024 if given.quick else 4_096)
    if "http" in given.parts:
        with opened(name) as place:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plora-bench-")))
            yield from http_rates.measure(place, folder, seconds)


def _scale(
    given: argparse.Namespace, chosen: dict[str, Callable[[str], AbstractContextManager[Place]]]
) -> tuple[list[Cost], Plan | None]:
    costs: list[Cost] = []
    plan = None
    users = QUICK_MANY if given.quick else given.users
    for name, opened in chosen.items():
        with opened(name) as few, opened(name) as many:
            small, large = scale.prepared(few, scale.FEW), scale.prepared(many, users)
            print(f"{name}: {users:,} users are there", file=sys.stderr, flush=True)
            if many.admin:
                plan = plan_of_due(many)
            costs += [_said(cost) for cost in scale.measure(name, small, large, rounds=10 if given.quick else 40)]
    return costs, plan


def _said(row: Row) -> Row:
    print(row, file=sys.stderr, flush=True)
    return row


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description="What the store costs.")
    parser.add_argument("--out", type=Path, required=True, help="folder for store.json and store.md")
    parser.add_argument("--quick", action="store_true", help="a minute, with fewer users and wide intervals")
    parser.add_argument("--users", type=int, default=scale.MANY, help="how many the large database has")
    for name, known in (("parts", PARTS), ("databases", DATABASES)):
        parser.add_argument(f"--{name}", type=_some(known), default=known, help=f"some of {','.join(known)}")
    return parser.parse_args(words)


def _some(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        if not set(words) <= set(known):
            raise argparse.ArgumentTypeError(f"some of {', '.join(known)}")
        return words

    return read


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
