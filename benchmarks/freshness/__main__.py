"""python -m benchmarks.freshness --out DIR [--quick] [--per-minute 50] [--minutes 3]: write freshness.json and .md."""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.freshness.report import Row, describe, row_of, write
from benchmarks.freshness.visits import every, one_by_one
from daemon.demo.crowd import NEWCOMER_EXAMPLES, NEWCOMERS, POPULATION, Participant, simulated
from daemon.demo.hosts import Host
from daemon.demo.process import Running, daemon

IDLE = 12
WARM = 2
IDLE_P50_S, BUSY_P95_S = 5.0, 15.0
BASIS_S = 600.0
CHOICES = {
    "PLORA_TRIGGER_MIN_FRESH": str(NEWCOMER_EXAMPLES),
    "PLORA_TRIGGER_MIN_TOTAL": str(NEWCOMER_EXAMPLES),
    "PLORA_MAX_TOKENS": "64",
    "PLORA_FIT_MAX_USERS": "16",
}
"""As in the demo: newcomers are due with their last example, and small cohorts answer sooner on a CPU."""


class NoBasis(Exception):
    """The population's Basis was not ready in time."""


def main(words: Sequence[str]) -> int:
    """Exit status 0 where every bound holds, 1 where one does not."""
    given = _parsed(words)
    machine = describe(" ".join(["python -m benchmarks.freshness", *_shown(words)]))
    busy = round(given.per_minute * given.minutes)
    crowd = simulated(newcomers=WARM + IDLE + busy)
    newcomers = crowd.of(NEWCOMERS)
    with (
        tempfile.TemporaryDirectory(prefix="plora-bench-") as folder,
        daemon(Path(folder) / "plora", CHOICES, lambda _: None) as running,
    ):
        _learn_basis(running, crowd.of(POPULATION))
        rows = _measured(running, newcomers, 60 / given.per_minute, f"{given.per_minute:g} newcomers a minute")
    print(write(given.out, rows, machine))
    return 0 if all(each.holds for each in rows) else 1


def _measured(running: Running, newcomers: Sequence[Participant], pause_s: float, busy: str) -> list[Row]:
    one_by_one(running, newcomers[:WARM])
    idle = one_by_one(running, newcomers[WARM : WARM + IDLE])
    crowded = every(running, newcomers[WARM + IDLE :], pause_s)
    return [row_of("idle", idle, 50, IDLE_P50_S), row_of(busy, crowded, 95, BUSY_P95_S)]


def _learn_basis(running: Running, population: Sequence[Participant]) -> None:
    """A Basis that the population trained, and an end to all that it set off."""
    host, pause = Host(running.url, running.host_token), threading.Event()
    operator = httpx.Client(
        base_url=running.url, headers={"Authorization": f"Bearer {running.operator_token}"}, timeout=60
    )
    host.introduce(population)
    operator.post("/v1/bases", json={"name": "freshness"}).raise_for_status()
    until = time.monotonic() + BASIS_S
    while not _is_calm(operator):
        if time.monotonic() > until:
            raise NoBasis
        pause.wait(0.5)
    host.close()
    operator.close()


def _is_calm(operator: httpx.Client) -> bool:
    """Whether the Basis is ready and nobody is being fitted to it any more."""
    if operator.get("/v1/bases").json()["bases"][0]["state"] != "ready":
        return False
    states = ("queued", "running", "succeeded")
    queued, running, done = (operator.get("/v1/runs", params={"state": each}).json()["runs"] for each in states)
    return bool(done) and not queued and not running


def _shown(words: Sequence[str]) -> list[str]:
    """The command line, without the name of a folder that nobody else has."""
    return ["DIR" if before == "--out" else word for before, word in zip(["", *words], words, strict=False)]


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freshness", description="From event to adapter.")
    parser.add_argument("--out", type=Path, required=True, help="folder for freshness.json and freshness.md")
    parser.add_argument("--per-minute", type=float, default=50.0, help="newcomers a minute (default 50)")
    parser.add_argument("--minutes", type=float, default=3.0, help="for so long (default 3)")
    parser.add_argument("--quick", action="store_const", const=1.0, dest="minutes", help="for one minute")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
