"""A9: SIGTERM under load ends a daemon with status 0, in time, with nothing lost and no lease left over."""

import json
import random
import secrets
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.faults import checker
from tests.faults.figures import record
from tests.faults.killing import CHOSEN, Fleet
from tests.faults.lightweight_trainer import lightweight_trainer
from tests.faults.producers import Book, Producer
from tests.faults.zygote import Zygote

WITHIN_S = 30.0
HANGS_S = 120.0


@dataclass
class Ends:
    """What was seen of one daemon that was stopped and started again and again."""

    fleet: Fleet
    draw: random.Random
    book: Book = field(default_factory=Book)
    seconds: list[float] = field(default_factory=list)
    statuses: list[object] = field(default_factory=list)
    left_over: int = 0
    sent_away: int = 0

    def stop(self) -> None:
        """Start, wait for any moment, SIGTERM, and look at what is left."""
        pause = threading.Event()
        self.fleet.start(0)
        self.fleet.wait_until_up(0)
        pause.wait(self.draw.uniform(0.1, 0.5))
        begun = time.monotonic()
        child = self.fleet.children[0]
        child.signal(signal.SIGTERM)
        self.sent_away += self._is_sent_away()
        ended = child.wait(WITHIN_S + 5)
        self.seconds.append(time.monotonic() - begun)
        self.statuses.append(child.result() if ended else "still there")
        self.left_over += self._running()

    def _is_sent_away(self) -> bool:
        """Whether it says, before it is gone, that it is not ready and takes nothing new."""
        url = f"http://127.0.0.1:{self.fleet.ports[0]}"
        try:
            ready = httpx.get(f"{url}/readyz", timeout=5)
            written = httpx.post(f"{url}/v1/events", timeout=5)
        except httpx.HTTPError:
            return False
        told = [cause["code"] for cause in ready.json()["causes"] if cause["blocking"]]
        return (ready.status_code, told, written.status_code) == (503, ["stopping"], 503)

    def _running(self) -> int:
        connection = sqlite3.connect(self.fleet.folder / "data" / "plora.db")
        try:
            return connection.execute("SELECT count(*) FROM runs WHERE state = 'running'").fetchone()[0]
        finally:
            connection.close()

    def released(self) -> int:
        lines = [json.loads(line) for line in self.fleet.log.read_text().splitlines() if '"released"' in line]
        return sum(line["count"] for line in lines)


def ended(daemons: Zygote, folder: Path, *, times: int, hangs: int, seed: int) -> Ends:
    """Daemons under load, stopped so often, the last ones while their trainer does not answer."""
    folder.mkdir(exist_ok=True)
    environ = CHOSEN | {"PLORA_DATA_DIR": str(folder / "data"), "PLORA_KEYS_DIR": str(folder / "keys")}
    fleet = Fleet(daemons, folder, environ | {"PLORA_LEASE_S": "60", "PLORA_TRAINER_URL": "http://127.0.0.1:1"})
    fleet.prepare()
    ends = Ends(fleet, random.Random(seed))
    producers = [
        Producer(ends.book, fleet.ports, fleet.tokens["host"], name=f"host{at}", total=10**9, seed=seed)
        for at in range(2)
    ]
    with ExitStack() as stack:
        stack.callback(fleet.end)
        key = bytes.fromhex(fleet.tokens["transport"])
        for producer in producers:
            producer.pace_s = 0.02
            producer.start()
            stack.callback(producer.stop)
        for fit_s, rounds in ((0.2, times - hangs), (HANGS_S, hangs)):
            fleet.environ["PLORA_TRAINER_URL"] = stack.enter_context(lightweight_trainer(key, fit_s))
            for _ in range(rounds):
                ends.stop()
        for producer in producers:
            producer.stop()
            producer.join(30)
        return ends


def judge(daemons: Zygote, every: list[Ends], seed: int, *, full: bool) -> None:
    lost: dict[str, int] = {}
    for ends in every:
        told = daemons.call("tests.faults.serving:read", environ=ends.fleet.environ, log=ends.fleet.log)
        lost |= checker.against_acks(ends.book.acked, told["events"])
        assert not ends.book.refused
        assert told["audit_ok"]
    seconds = sorted(each for ends in every for each in ends.seconds)
    record(
        "A9",
        seed,
        full=full,
        stopped=len(seconds),
        acked=sum(ends.book.count for ends in every),
        lost=sum(lost.values()),
        leases_left=sum(ends.left_over for ends in every),
        released=sum(ends.released() for ends in every),
        sent_away=sum(ends.sent_away for ends in every),
        seconds_p50=round(seconds[len(seconds) // 2], 2),
        seconds_max=round(seconds[-1], 2),
    )
    assert not lost
    assert {status for ends in every for status in ends.statuses} == {0}
    assert seconds[-1] <= WITHIN_S
    assert not any(ends.left_over for ends in every)
    assert all(ends.released() for ends in every)
    assert sum(ends.sent_away for ends in every) > len(seconds) / 2


def test_sigterm_under_load_ends_cleanly(daemons, tmp_path):
    seed = secrets.randbits(32)
    judge(daemons, [ended(daemons, tmp_path, times=5, hangs=1, seed=seed)], seed, full=False)


@pytest.mark.long
def test_two_hundred_sigterms_under_load_end_cleanly(daemons, tmp_path):
    seed = secrets.randbits(32)
    with ThreadPoolExecutor(2) as both:
        every = list(
            both.map(lambda at: ended(daemons, tmp_path / f"{at}", times=100, hangs=3, seed=seed + at), range(2))
        )
    judge(daemons, every, seed, full=True)
