"""python -m benchmarks.capacity [--users N] [--events A_DAY] [--gpus N]: what that takes, line by line.

--measure DIR fills both databases and writes capacity.json, the bytes that the lines need. --check PAGE holds the table
in a page against the lines of the defaults: exit status 1 when they differ. --write PAGE writes it.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.capacity import arithmetic, sizes
from benchmarks.store.machine import describe

BEGIN, END = "<!-- capacity: python -m benchmarks.capacity --write -->", "<!-- /capacity -->"
DOCS = Path(__file__).parents[2] / "docs"


def main(words: list[str]) -> int:
    """Exit status 1 when a checked page is not what the lines say."""
    given = _parsed(words)
    if given.measure:
        body = {
            "machine": {**describe(), "command": "python -m benchmarks.capacity --measure DIR"},
            "users": sizes.USERS,
            "sizes": [asdict(each) for each in sizes.measure()],
        }
        (given.measure / "capacity.json").write_text(json.dumps(body, indent=1) + "\n")
        print((given.measure / "capacity.json").read_text())
        return 0
    demand = arithmetic.Demand(given.users, given.events, given.peak, given.fresh, given.gpus)
    shown = arithmetic.table(arithmetic.lines(demand, arithmetic.read(DOCS)))
    page = given.check or given.write
    if page is None:
        print(shown)
        return 0
    text = page.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    wanted = f"{head}{BEGIN}\n\n{shown}\n\n{END}{tail}"
    if given.write:
        page.write_text(wanted)
    if text != wanted and given.check:
        print(
            f"{page} is not what the measured costs say: python -m benchmarks.capacity --write {page}", file=sys.stderr
        )
    return int(bool(given.check) and text != wanted)


def _parsed(words: list[str]) -> argparse.Namespace:
    usual = arithmetic.Demand()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity", description="What serving so many users takes."
    )
    parser.add_argument("--users", type=int, default=usual.users)
    parser.add_argument("--events", type=float, default=usual.events_per_day, help="of a user, a day")
    parser.add_argument("--peak", type=float, default=usual.peak, help="how many times the mean the peak is")
    parser.add_argument("--fresh", type=int, default=usual.fresh, help="PLORA_TRIGGER_MIN_FRESH")
    parser.add_argument("--gpus", type=int, default=usual.gpus, help="that fit everybody again")
    act = parser.add_mutually_exclusive_group()
    act.add_argument("--measure", type=Path, metavar="DIR")
    act.add_argument("--check", type=Path, metavar="PAGE")
    act.add_argument("--write", type=Path, metavar="PAGE")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
