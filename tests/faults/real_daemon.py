"""A real daemon process whose trainer is somewhere else, the people it learns from, and what is asked of it."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from daemon.demo.crowd import Labelled, Participant
from daemon.demo.hosts import Host
from daemon.demo.process import ROOT
from daemon.ray_child import free_port
from storage import KeyRing
from tests.faults.killing import until

LIMIT_S = 120.0
TOLD = 13
THINGS = ("lamp", "bag", "chair", "radio", "kettle", "jacket", "clock", "bottle")
CHOSEN = {
    "PLORA_TRIGGER_MIN_FRESH": str(TOLD),
    "PLORA_TRIGGER_MIN_TOTAL": str(TOLD),
    "PLORA_BASIS_EPOCHS": "30",
    "PLORA_LEASE_S": "10",
    "PLORA_LOG_FORMAT": "json",
    "PLORA_HEARTBEAT_EVERY_S": "0",
    "OMP_NUM_THREADS": "1",
}


def person(number: int, told: int = TOLD, group: str = "person") -> Participant:
    """Somebody who likes either everything tiny or everything huge."""
    draw = random.Random(number)
    wanted = ("tiny", "huge")[number % 2]
    rows = [
        Labelled(f"a {size} {thing}", "like" if size == wanted else "dislike")
        for size in ("tiny", "huge")
        for thing in THINGS
    ]
    draw.shuffle(rows)
    return Participant(f"{group}-{number}", "newcomers", tuple(rows[:told]), tuple(rows[told:]))


class Daemon:
    """`python -m daemon serve` over a folder, which can be killed and started again."""

    def __init__(self, folder: Path, choices: Mapping[str, str]) -> None:
        self.folder, self.port = folder, free_port()
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / "daemon.log"
        self.ring = KeyRing.create(folder / "keys")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLORA_")}
        self._environ = kept | CHOSEN | dict(choices)
        self._environ |= {
            "PLORA_DATA_DIR": str(folder / "data"),
            "PLORA_KEYS_DIR": str(folder / "keys"),
            "PLORA_PORT": str(self.port),
        }

    def start(self) -> None:
        """Returns when it is ready."""
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "serve"], cwd=ROOT, env=self._environ, stdout=out, stderr=out
            )
        until(lambda: self.is_ready() or self.process.poll() is not None, LIMIT_S)
        assert self.is_ready(), self.log.read_text()[-2000:]

    def is_ready(self) -> bool:
        try:
            return bool(httpx.get(f"{self.url}/readyz", timeout=5).json()["ready"])
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def token(self, name: str) -> str:
        return (self.folder / "keys" / f"{name}.token").read_text().strip()

    def metric(self, name: str) -> float:
        """The sum of its series; 0 if there is none."""
        page = httpx.get(f"{self.url}/metrics", timeout=10).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in page if line.partition(" ")[0].partition("{")[0] == name)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class People:
    """The hosts' side: who was introduced, and whether each was judged exactly once."""

    def __init__(self, daemon: Daemon) -> None:
        self.host = Host(daemon.url, daemon.token("host"))
        headers = {"Authorization": f"Bearer {daemon.token('operator')}"}
        self.operator = httpx.Client(base_url=daemon.url, headers=headers, timeout=60)
        self.everyone: list[Participant] = []

    def make_basis(self) -> None:
        """A population, and a Basis that it trained."""
        self.host.introduce([person(number, TOLD - 1, "old") for number in range(16)])
        self.operator.post("/v1/bases", json={"name": "faults"}).raise_for_status()
        assert until(lambda: self.operator.get("/v1/bases").json()["bases"][0]["state"] == "ready", LIMIT_S)

    def newcomers(self, count: int) -> Sequence[Participant]:
        """So many more, who are all due at once."""
        begin = len(self.everyone)
        made = [person(number) for number in range(begin, begin + count)]
        self.host.introduce(made)
        self.everyone += made
        return made

    def have_versions(self, whom: Sequence[Participant] | None = None) -> bool:
        try:
            return all(self.host.user(one.id)["versions"] for one in whom or self.everyone)
        except (httpx.HTTPError, KeyError):
            return False

    def judged_wrongly(self) -> list[dict[str, object]]:
        """Those who were not judged exactly once, from exactly what they told; and anything wrong with the audit."""
        wrong = []
        for one in self.everyone:
            view = self.host.user(one.id)
            succeeded = [run["state"] for run in view["runs"]].count("succeeded")
            if (len(view["versions"]), succeeded, view["counts"]["examples"]) != (1, 1, len(one.told)):
                wrong.append(view)
        audit = self.operator.get("/v1/audit/verify").json()
        return wrong if audit["ok"] else [*wrong, audit]

    def close(self) -> None:
        self.host.close()
        self.operator.close()


class Pulse(threading.Thread):
    """Sends an event every few milliseconds, and times the answers."""

    def __init__(self, daemon: Daemon, every_s: float = 0.02) -> None:
        super().__init__(daemon=True)
        self._host, self._every_s, self._ending = Host(daemon.url, daemon.token("host")), every_s, threading.Event()
        self._host.consent([person(9_000, 1, "pulse")])
        self.failed: list[str] = []

    def run(self) -> None:
        row, number = Labelled("a tiny lamp", "like"), 0
        while not self._ending.wait(self._every_s):
            try:
                self._host.tell("pulse-9000", number, row)
            except Exception as problem:  # noqa: BLE001 - counted, and none may be
                self.failed.append(type(problem).__name__)
            number += 1

    def end(self) -> dict[str, float]:
        """How many were answered, how many not, and how long it took."""
        self._ending.set()
        self.join()
        self._host.close()
        times = sorted(self._host.posted_ms)
        return {
            "answers": len(times),
            "failed": len(self.failed),
            "p99_ms": round(times[int(0.99 * len(times))], 1),
            "max_ms": round(times[-1], 1),
        }
