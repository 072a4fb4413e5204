"""A2: whatever dies, daemons, connections or the database itself, several daemons on one PostgreSQL lose nothing."""

import os
import random
import secrets
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults import checker
from tests.faults.figures import record
from tests.faults.killing import CHOSEN, DUE, Fleet, loop, settle, until
from tests.faults.lightweight_trainer import lightweight_trainer
from tests.faults.postmaster import Postmaster, postmaster
from tests.faults.producers import Book, Producer
from tests.faults.zygote import Zygote

DAEMONS = 2
RECOVERED_S = 10.0
HOPELESS_S = 60.0


@pytest.fixture
def server() -> Iterator[Postmaster]:
    with postmaster() as made:
        yield made


def rows_of(server: Postmaster) -> Callable[[], dict[str, int]]:
    return lambda: checker.violations(server.ask, DUE)


def fleet_on(daemons: Zygote, server: Postmaster, folder: Path) -> Fleet:
    environ = CHOSEN | {
        "PLORA_DATABASE_URL": server.url,
        "PLORA_DATA_DIR": str(folder / "data"),
        "PLORA_KEYS_DIR": str(folder / "keys"),
        "PLORA_TRAINER_URL": "http://127.0.0.1:1",
    }
    fleet = Fleet(daemons, folder, environ, DAEMONS)
    fleet.prepare()
    return fleet


def kill_servers(fleet: Fleet, server: Postmaster, book: Book, draw: random.Random, kills: int) -> list[float]:
    """Backends one time in three, else the whole server; how long until an event was acknowledged again, each time."""
    pause, seconds = threading.Event(), []
    while len(seconds) < kills:
        pause.wait(draw.uniform(0.2, 1.0))
        before, started = book.count, time.monotonic()
        backends = server.backends()
        if draw.random() < 1 / 3 and backends:
            fleet.faults["backend"] += 1
            _kill(draw.choice(backends))
        else:
            fleet.faults["server"] += 1
            server.kill_all()
            before = book.count
            server.start()
        assert until(lambda before=before: book.count > before, HOPELESS_S, 0.02), fleet.log.read_text()[-3000:]
        seconds.append(time.monotonic() - started)
        for at, child in fleet.children.items():
            assert not child.wait(0), f"daemon {at} died of it: {fleet.log.read_text()[-3000:]}"
    return seconds


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def survived(daemons: Zygote, server: Postmaster, folder: Path, *, kills: int, seed: int) -> dict[str, object]:
    fleet, draw, book = fleet_on(daemons, server, folder), random.Random(seed), Book()
    producers = [
        Producer(book, fleet.ports, fleet.tokens["host"], name=f"host{at}", total=1_000_000, seed=seed)
        for at in range(2)
    ]
    try:
        with lightweight_trainer(bytes.fromhex(fleet.tokens["transport"]), fit_s=0.02) as url:
            fleet.environ["PLORA_TRAINER_URL"] = url
            for at in range(fleet.count):
                fleet.start(at)
                fleet.wait_until_up(at)
            for producer in producers:
                producer.pace_s = 0.02
                producer.start()
            seconds = kill_servers(fleet, server, book, draw, kills)
            for producer in producers:
                producer.stop()
            told = settle(fleet, rows_of(server), book, producers)
    finally:
        fleet.end()
    slow = sorted(seconds)
    return told | {
        "seed": seed,
        "kills": len(seconds),
        "backends": fleet.faults["backend"],
        "recovery_p50_s": round(statistics.median(slow), 2),
        "recovery_p95_s": round(slow[min(len(slow) - 1, int(0.95 * len(slow)))], 2),
        "recovery_max_s": round(slow[-1], 2),
    }


def test_a_killed_database_loses_nothing(daemons, server, tmp_path):
    figures = survived(daemons, server, tmp_path, kills=4, seed=secrets.randbits(32))
    record("A2", **figures, full=False)
    assert not figures["broken"]
    assert figures["recovery_p95_s"] <= RECOVERED_S


@pytest.mark.long
@pytest.mark.parametrize("part", range(2))
def test_a_hundred_kills_of_the_database_lose_nothing(daemons, server, tmp_path, part):
    figures = survived(daemons, server, tmp_path, kills=50, seed=secrets.randbits(32))
    record(f"A2.{part + 1}", **figures, full=True)
    assert not figures["broken"]
    assert figures["recovery_p95_s"] <= RECOVERED_S


@pytest.mark.long
def test_killed_daemons_on_one_database_do_everything_once(daemons, server, tmp_path):
    seed, fleet = secrets.randbits(32), fleet_on(daemons, server, tmp_path)
    try:
        with lightweight_trainer(bytes.fromhex(fleet.tokens["transport"]), fit_s=0.02) as url:
            fleet.environ["PLORA_TRAINER_URL"] = url
            figures = loop(fleet, rows_of(server), seed=seed, kills=100, events=2_000)
    finally:
        fleet.end()
    record("A1.postgres", **figures, full=True)
    assert not figures["broken"]
