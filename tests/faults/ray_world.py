"""A cluster, a daemon that works with it, and people whose Basis is ready: with these, tests of a failing Ray begin."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from daemon.demo.crowd import Participant
from daemon.ray_child import free_port
from tests import tools
from tests.faults.killing import until
from tests.faults.ray_cluster import Cluster, cluster, config_of
from tests.faults.real_daemon import LIMIT_S, Daemon, People


@dataclass
class World:
    """`args` are what Serve's config gives both applications."""

    ray: Cluster
    daemon: Daemon
    people: People
    args: dict[str, object]

    def deploy(self, **changed: object) -> None:
        """Put the config, with these arguments changed; returns at once."""
        self.args |= changed
        self.ray.deploy(config_of(self.ray.serve, **self.args))

    def is_whole(self) -> bool:
        """Whether the applications run with all their trainers."""
        return self.ray.runs() and len(self.ray.replicas()) == self.args["replicas"]

    def held_fit(self, count: int) -> Sequence[Participant]:
        """Newcomers whose runs a Trainer has taken, and does not carry out: all trainers are frozen."""
        freeze(self.ray.replicas())
        whom = self.people.newcomers(count)
        assert until(lambda: self._open("running") and self._open("running") + self._open("queued") >= count, LIMIT_S)
        return whom

    def _open(self, state: str) -> int:
        return len(self.people.operator.get("/v1/runs", params={"state": state}).json()["runs"])

    def seconds_until_judged(self, whom: Sequence[Participant], since: float) -> float:
        """Since `since` on the monotonic clock."""
        assert until(lambda: self.people.have_versions(whom), LIMIT_S, 0.05), self.daemon.log.read_text()[-3000:]
        return round(time.monotonic() - since, 2)


@contextmanager
def world(
    folder: Path,
    *,
    workers: int = 1,
    replicas: int = 2,
    most: int = 0,
    kind: type[World] = World,
    redis: str = "",
    system: Mapping[str, object] | None = None,
    through: Callable[[int], int] = lambda port: port,
) -> Iterator[World]:
    """Everything runs, and a Basis is ready. `through` says where the daemon finds what answers at a port."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{through(port)}"
    daemon = Daemon(folder, {"PLORA_TRAINER_URL": url, "PLORA_REPLICAS": str(max(replicas, most))})
    with cluster(daemon.ring.transport_path, port=port, redis=redis, system=system) as ray:
        ray.start_head()
        for _ in range(workers):
            ray.add_worker()
        made = kind(ray, daemon, None, {"threads": 1, "replicas": replicas, "most_replicas": most})
        made.deploy()
        daemon.start()
        try:
            made.people = People(daemon)
            assert until(made.is_whole, LIMIT_S), ray.applications()
            made.people.make_basis()
            yield made
            made.people.close()
        finally:
            daemon.end()


@contextmanager
def redis() -> Iterator[str]:
    """The address of a Redis of our own, in memory."""
    program, port = tools.need("redis-server"), free_port()
    words = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(words, env=tools.environment(), stdout=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def freeze(pids: Sequence[int]) -> None:
    _signal(pids, signal.SIGSTOP)


def thaw(pids: Sequence[int]) -> None:
    _signal(pids, signal.SIGCONT)


def kill(pids: Sequence[int]) -> None:
    _signal(pids, signal.SIGKILL)


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def answers(url: str) -> bool:
    """Whether a Trainer does there."""
    try:
        return httpx.get(f"{url}/ready", timeout=5).is_success
    except httpx.HTTPError:
        return False
