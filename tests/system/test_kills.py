"""Long: whatever is killed while users act, every acknowledged event ends in a judged adapter, exactly once."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from daemon.demo.crowd import Labelled, Participant
from daemon.demo.hosts import Host
from daemon.demo.process import ROOT
from daemon.ray_child import free_port
from tests.faults.figures import record

ROUNDS = 6
USERS_A_ROUND = 4
LIMIT_S = 150.0


def until(seen: Callable[[], bool]) -> bool:
    pause = threading.Event()
    for _ in range(int(LIMIT_S / 0.25)):
        try:
            if seen():
                return True
        except httpx.HTTPError:
            pass  # it is just being started again
        pause.wait(0.25)
    return False


def person(number: int, told: int) -> Participant:
    draw = random.Random(number)
    wanted = ("tiny", "huge")[number % 2]
    things = ("lamp", "bag", "chair", "radio", "kettle", "jacket", "clock", "bottle")
    rows = [
        Labelled(f"a {size} {t}", "like" if size == wanted else "dislike") for size in ("tiny", "huge") for t in things
    ]
    draw.shuffle(rows)
    return Participant(f"person-{number}", "newcomers", tuple(rows[:told]), tuple(rows[told:]))


class Daemon:
    """A daemon that can be killed and started again over the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "daemon.log"
        folder.mkdir()

    def start(self) -> None:
        ours = {
            "PLORA_DATA_DIR": str(self.folder / "data"),
            "PLORA_KEYS_DIR": str(self.folder / "keys"),
            "PLORA_PORT": str(self.port),
            "PLORA_TRIGGER_MIN_FRESH": "13",
            "PLORA_TRIGGER_MIN_TOTAL": "13",
            "PLORA_BASIS_EPOCHS": "30",
            "PLORA_LEASE_S": "10",
            "PLORA_HEARTBEAT_EVERY_S": "0",
        }
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "serve"], cwd=ROOT, env=os.environ | ours, stdout=out, stderr=out
            )
        assert until(lambda: httpx.get(f"{self.url}/readyz", timeout=5).json()["ready"]), self.log.read_text()[-2000:]

    def trains(self) -> bool:
        """Whether a Trainer answers it."""
        causes = httpx.get(f"{self.url}/readyz", timeout=5).json()["causes"]
        return not any(cause["code"] == "trainer_down" for cause in causes)

    def token(self, name: str) -> str:
        return (self.folder / "keys" / f"{name}.token").read_text().strip()

    def trainer(self) -> int:
        return int(re.findall(r"action=trainer_started.*?pid=(\d+)", self.log.read_text())[-1])

    def replica(self) -> int | None:
        """A Trainer replica of this daemon's own Ray."""
        return self.below(b"Trainer")

    def below(self, title: bytes) -> int | None:
        """A process below this daemon's own child, by its title."""
        for pid in self.descendants(self.trainer()):
            try:
                if title in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
            except OSError:
                continue
        return None

    def descendants(self, pid: int) -> list[int]:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return []
        return [each for child in children for each in (int(child), *self.descendants(int(child)))]

    def kill(self, what: str) -> None:
        pid = {
            "child": self.trainer,
            "replica": self.replica,
            "raylet": lambda: self.below(b"raylet/raylet"),
            "gcs": lambda: self.below(b"gcs_server"),
            "daemon": lambda: self.process.pid,
        }[what]()
        assert pid is not None, f"no {what} to kill"
        os.kill(pid, signal.SIGKILL)
        if what == "daemon":
            self.process.wait()
            self.start()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_acknowledged_user_is_judged_exactly_once_whatever_is_killed(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    draw = random.Random(seed)
    daemon = Daemon(tmp_path / "plora")
    daemon.start()
    try:
        host = Host(daemon.url, daemon.token("host"))
        operator = httpx.Client(
            base_url=daemon.url, headers={"Authorization": f"Bearer {daemon.token('operator')}"}, timeout=60
        )
        host.introduce([person(number, 12) for number in range(16)])
        operator.post("/v1/bases", json={"name": "kills"}).raise_for_status()
        assert until(lambda: operator.get("/v1/bases").json()["bases"][0]["state"] == "ready")
        everyone = []
        for turn in range(ROUNDS):
            assert until(lambda: daemon.trains() and daemon.replica() is not None)  # what was killed last is back
            users = [person(100 + turn * USERS_A_ROUND + number, 13) for number in range(USERS_A_ROUND)]
            everyone += users
            host.consent(users)
            for one in users:
                for number, row in enumerate(one.told):
                    host.tell(one.id, number, row)
            threading.Event().wait(draw.uniform(0.0, 2.0))  # any moment of the fit
            daemon.kill(("child", "replica", "daemon")[turn % 3])
        assert until(lambda: all(host.user(one.id)["versions"] for one in everyone))
        for one in everyone:
            view = host.user(one.id)
            assert view["counts"]["examples"] == len(one.told)
            assert len(view["versions"]) == 1
            assert [run["state"] for run in view["runs"]].count("succeeded") == 1
        assert operator.get("/v1/audit/verify").json()["ok"]
        host.close()
        operator.close()
    finally:
        daemon.stop()


class Pulse(threading.Thread):
    """Sends an event every few milliseconds and times the answers."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon=True)
        self._host, self._ending = Host(daemon.url, daemon.token("host")), threading.Event()
        self._host.consent([person(9_000, 1)])
        self.failed: list[str] = []

    def run(self) -> None:
        row, number = Labelled("a tiny lamp", "like"), 0
        while not self._ending.wait(0.05):
            try:
                self._host.tell("person-9000", number, row)
            except Exception as problem:  # noqa: BLE001 - counted, and none may be
                self.failed.append(type(problem).__name__)
            number += 1

    def end(self) -> tuple[int, float]:
        """How many answers, and the 99th percentile of their times in seconds."""
        self._ending.set()
        self.join()
        self._host.close()
        times = sorted(self._host.posted_ms)
        return len(times), times[int(0.99 * len(times))] / 1000


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victims", [("replica",) * 10, ("raylet", "gcs")], ids=["workers", "raylet and GCS"])
def test_while_ray_dies_piece_by_piece_the_api_answers_and_every_run_is_done_once(
    tmp_path: Path, victims: tuple[str, ...]
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    draw = random.Random(seed)
    daemon = Daemon(tmp_path / "plora")
    daemon.start()
    try:
        host = Host(daemon.url, daemon.token("host"))
        host.introduce([person(number, 12) for number in range(16)])
        headers = {"Authorization": f"Bearer {daemon.token('operator')}"}
        operator = httpx.Client(base_url=daemon.url, headers=headers, timeout=60)
        operator.post("/v1/bases", json={"name": "kills"}).raise_for_status()
        assert until(lambda: operator.get("/v1/bases").json()["bases"][0]["state"] == "ready")
        everyone, pulse = [], Pulse(daemon)
        pulse.start()
        for turn, victim in enumerate(victims):
            assert until(lambda: daemon.trains() and daemon.replica() is not None)
            one = person(100 + turn, 13)
            everyone.append(one)
            host.introduce([one])
            threading.Event().wait(draw.uniform(0.0, 1.0))
            daemon.kill(victim)
        assert until(lambda: all(host.user(one.id)["versions"] for one in everyone))
        answers, p99_s = pulse.end()
        record(
            f"A5.{victims[0]}",
            seed,
            kills=len(victims),
            answers=answers,
            failed=len(pulse.failed),
            api_p99_s=round(p99_s, 3),
            full=True,
        )
        assert not pulse.failed
        assert p99_s < 1.0
        assert daemon.process.poll() is None
        for one in everyone:
            view = host.user(one.id)
            assert len(view["versions"]) == 1
            assert [run["state"] for run in view["runs"]].count("succeeded") == 1
        assert operator.get("/v1/audit/verify").json()["ok"]
        operator.close()
        host.close()
    finally:
        daemon.stop()
