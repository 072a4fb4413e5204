"""python -m benchmarks.predict --out DIR [--quick] [--requests 100000]: write predict.json and predict.md."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.freshness.report import describe
from benchmarks.predict.load import latencies
from benchmarks.predict.report import write
from benchmarks.predict.soak import soak
from benchmarks.predict.world import world

USERS, LATENCIES, SOAK = 1_000, 3_000, 100_000
QUICK_USERS, QUICK_LATENCIES, QUICK_SOAK = 100, 300, 1_000
SEED = 11


def main(words: Sequence[str]) -> int:
    """Exit status 0 where every bound holds, 1 where one does not."""
    given = _parsed(words)
    machine = describe("python -m benchmarks.predict --out DIR" + (" --quick" if given.quick else ""))
    users, each = (QUICK_USERS, QUICK_LATENCIES) if given.quick else (USERS, LATENCIES)
    requests = given.requests or (QUICK_SOAK if given.quick else SOAK)
    with (
        tempfile.TemporaryDirectory(prefix="plora-bench-") as folder,
        world(Path(folder), users, {}) as made,
    ):
        one, many = asyncio.run(latencies(made, each))
        lasted = asyncio.run(soak(made, requests, SEED))
    found = write(given.out, one, many, lasted, machine)
    print(found.told)
    return 0 if found.holds else 1


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description="Predictions under load.")
    parser.add_argument("--out", type=Path, required=True, help="folder for predict.json and predict.md")
    parser.add_argument("--requests", type=int, help=f"requests of the soak (default {SOAK})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_USERS} users, {QUICK_SOAK} requests")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
