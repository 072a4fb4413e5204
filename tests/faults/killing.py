"""The kill loop: daemons under load, killed and paused at random and at named points, and what is left afterwards."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from daemon.ray_child import free_port
from tests.faults import checker
from tests.faults.producers import Book, Producer
from tests.faults.zygote import Child, Zygote

LEASE_S = 1.0
DUE = 3
STUCK_S = 60.0
OWN_DEATH_S = 1.0
POINTS = (
    "ingest-before-commit",
    "ingest-after-commit",
    "runs-opened",
    "claimed",
    "fitted",
    "finish-before-commit",
    "finish-after-commit",
    "transaction-before-commit",
    "upkeep",
)
CHOSEN = {
    "PLORA_DEFAULT_CONSENT": "true",
    "PLORA_LEASE_S": str(LEASE_S),
    "PLORA_TICK_S": "0.1",
    "PLORA_CLAIM_LIMIT": "8",
    "PLORA_TRIGGER_MIN_FRESH": str(DUE),
    "PLORA_TRIGGER_COOLDOWN_S": "0",
    "PLORA_TRIGGER_MAX_RUNS_PER_DAY": "1000000",
    "PLORA_ATTEMPTS_MAX_ERRORS": "1000000",
    "PLORA_ATTEMPTS_MAX_CRASHES": "1000000",
    "PLORA_ATTEMPTS_FIRST_PAUSE_S": "0.05",
    "PLORA_ATTEMPTS_CRASH_PAUSE_S": "0.05",
    "PLORA_ATTEMPTS_ABSENT_PAUSE_S": "0.05",
    "PLORA_SELECTION_MIN_HELD_OUT": "1",
    "PLORA_SELECTION_MIN_LEARN": "1",
    "PLORA_RETENTION_KEEP_VERSIONS": "1000000",
    "PLORA_LOG_FORMAT": "json",
    "PLORA_HEARTBEAT_EVERY_S": "0",  # or every count would depend on the time of day
}


@dataclass
class Fleet:
    """One daemon, or several over one database, that are started again whenever they die."""

    zygote: Zygote
    folder: Path
    environ: dict[str, str]
    count: int = 1
    faults: Counter[str] = field(default_factory=Counter)
    children: dict[int, Child] = field(default_factory=dict)
    ports: list[int] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    slow: list[float] = field(default_factory=list)

    def prepare(self) -> None:
        self.tokens = self.zygote.call("tests.faults.serving:prepare", environ=self.environ, log=self.log)
        self.ports = [free_port() for _ in range(self.count)]

    @property
    def log(self) -> Path:
        return self.folder / "daemons.log"

    def start(self, at: int, points: dict[str, tuple[str, int]] | None = None) -> None:
        if at in self.children:
            self.children.pop(at).close()
        environ = self.environ | {"PLORA_PORT": str(self.ports[at])}
        self.children[at] = self.zygote.start(
            "tests.faults.serving:serve", log=self.log, environ=environ, points=points or {}
        )

    def answers(self, at: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[at]}/readyz", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def wait_until_up(self, at: int, limit_s: float = 30.0) -> bool:
        """Whether it answers; False when it died before."""
        started = time.monotonic()
        while not self.answers(at):
            if self.children[at].wait(0.01):
                return False
            if time.monotonic() > started + limit_s:
                raise AssertionError(f"no daemon after {limit_s} s: {self.log.read_text()[-3000:]}")
        self.slow.append(time.monotonic() - started)
        return True

    def is_done(self) -> bool:
        """Whether no run is open."""
        headers = {"Authorization": f"Bearer {self.tokens['operator']}"}
        try:
            return not any(
                httpx.get(
                    f"http://127.0.0.1:{self.ports[0]}/v1/runs", params={"state": state}, headers=headers, timeout=5
                ).json()["runs"]
                for state in ("queued", "running")
            )
        except (httpx.HTTPError, KeyError):
            return False

    def end(self) -> None:
        for child in self.children.values():
            child.kill()
            child.close()
        self.children.clear()


def until(seen: Callable[[], bool], limit_s: float, every_s: float = 0.1) -> bool:
    """Whether it was seen in time."""
    pause, end = threading.Event(), time.monotonic() + limit_s
    while not seen():
        if time.monotonic() > end:
            return False
        pause.wait(every_s)
    return True


def kill_daemons(fleet: Fleet, draw: random.Random, kills: int, points: Sequence[str] = POINTS) -> None:
    """`kills` deaths: at a named point or at any moment; one fault in ten is a pause longer than the lease."""
    pause = threading.Event()
    armed = {at: _start_armed(fleet, at, draw, points) for at in range(fleet.count)}
    for _ in range(kills):
        at = draw.randrange(fleet.count)
        child = fleet.children[at]
        if draw.random() < 0.1 and fleet.wait_until_up(at):
            fleet.faults["pause"] += 1
            child.signal(signal.SIGSTOP)
            pause.wait(LEASE_S * 1.2)
            child.signal(signal.SIGCONT)
        if draw.random() < 0.8:  # else also while it starts
            fleet.wait_until_up(at)
        if child.wait(OWN_DEATH_S if armed[at] else draw.uniform(0.0, 0.4)):
            fleet.faults["named point"] += 1
        else:
            fleet.faults["any moment"] += 1
            child.kill()
        armed[at] = _start_armed(fleet, at, draw, points)


def _start_armed(fleet: Fleet, at: int, draw: random.Random, points: Sequence[str]) -> bool:
    """Start a daemon; whether it is one of the half that die at a point, one of the first times they reach it."""
    armed = {draw.choice(points): ("kill", draw.choice((1, 1, 2, 3)))} if draw.random() < 0.5 else {}
    fleet.start(at, armed)
    return bool(armed)


def loop(fleet: Fleet, rows: Callable[[], dict[str, int]], *, seed: int, kills: int, events: int) -> dict[str, object]:
    """Load, faults, peace; then what is broken, and the figures."""
    draw, book = random.Random(seed), Book()
    producers = [
        Producer(book, fleet.ports, fleet.tokens["host"], name=f"host{at}", total=events // 2, seed=seed)
        for at in range(2)
    ]
    started = time.monotonic()
    for producer in producers:
        producer.pace_s = 0.01
        producer.start()
    kill_daemons(fleet, draw, kills)
    return settle(fleet, rows, book, producers) | {
        "seed": seed,
        "kills": kills,
        "pauses": fleet.faults["pause"],
        "at_named_points": fleet.faults["named point"],
        "seconds": round(time.monotonic() - started, 1),
    }


def settle(
    fleet: Fleet, rows: Callable[[], dict[str, int]], book: Book, producers: Sequence[Producer]
) -> dict[str, object]:
    """Peace: everything is sent and every run ends. Then what is broken."""
    for at in range(fleet.count):
        fleet.children[at].kill()
        fleet.start(at)
        fleet.wait_until_up(at)
    for producer in producers:
        producer.pace_s = 0.0
        producer.join(STUCK_S)
    calm = threading.Event()
    finished = until(lambda: fleet.is_done() and not calm.wait(0.4) and fleet.is_done(), STUCK_S)
    fleet.end()
    told = fleet.zygote.call("tests.faults.serving:read", environ=fleet.environ, log=fleet.log)
    broken = rows() | checker.against_acks(book.acked, told["events"])
    for name in ("unreadable", "wrong"):
        if told[name]:
            broken[f"{name} versions"] = told[name]
    if not told["audit_ok"]:
        broken["audit chain"] = 1
    if book.refused:
        broken[f"answers such as {book.refused[0]}"] = len(book.refused)
    if not finished or any(producer.is_alive() for producer in producers):
        broken["not done in time"] = 1
    return {"broken": broken, "acked": book.count, "versions": told["opened"], "retries": book.retries}
