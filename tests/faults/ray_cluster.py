"""A Ray cluster as KubeRay runs it, on this machine: a head without CPUs, workers, a token, Serve by its REST API.

Every node is `ray start --block`, a session of its own whose processes carry a mark: they are killed, frozen and ended
by that mark, and no other Ray of this machine is touched. The state of the head is kept by Redis, if one is given.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from daemon.demo.process import ROOT
from daemon.processes import MARK, Started
from daemon.ray_child import free_port
from daemon.trainer_order import KEY_FILE
from tests.faults.killing import until

START_S = 120.0
END_S = 20.0
TUNED = {"health_check_period_ms": 500, "health_check_failure_threshold": 2, "health_check_timeout_ms": 500}
RAY = Path(sys.executable).with_name("ray")


class Node:
    """One `ray start`, as a pod would run it."""

    def __init__(self, name: str, folder: Path, words: Sequence[str], environ: Mapping[str, str]) -> None:
        self.name, self._folder = name, folder
        self._mark = f"{folder}/{name}-{secrets.token_hex(3)}"
        self.log = folder / f"{name}.log"
        fixed = ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000", "--block"]
        ports = [f"--{port}-port={free_port()}" for port in ("dashboard-agent-listen", "dashboard-agent-grpc")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(RAY), "start", *words, *fixed, *ports],
                cwd=folder,
                env=dict(environ) | {MARK: self._mark},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def pids(self, title: bytes = b"") -> list[int]:
        """Its processes whose command line holds `title`."""
        return [pid for pid in Started(self._mark).pids() if title in _title(pid)]

    def end(self) -> None:
        """Everything that it started, at once."""
        self.process.kill()
        self.process.wait()
        Started(self._mark).end(END_S)


class Cluster:
    """A head, workers, and the two applications."""

    def __init__(self, folder: Path, key_file: Path, port: int, redis: str, system: Mapping[str, object]) -> None:
        self._folder, self.serve = folder, port
        self.token = secrets.token_hex(32)
        self.gcs, self.dashboard, self._client = (free_port() for _ in range(3))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PLORA_", "RAY_"))}
        self._environ = (
            kept
            | {
                "PYTHONPATH": str(ROOT),
                KEY_FILE: str(key_file),
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": self.token,
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
                "OMP_NUM_THREADS": "1",
                "OMP_WAIT_POLICY": "PASSIVE",
                "TOKENIZERS_PARALLELISM": "false",
            }
            | ({"RAY_REDIS_ADDRESS": redis} if redis else {})
        )
        self._environ |= {f"RAY_{name}": str(value) for name, value in system.items()}
        self.head: Node | None = None
        self.workers: list[Node] = []

    @property
    def url(self) -> str:
        """Where the applications answer."""
        return f"http://127.0.0.1:{self.serve}"

    def start_head(self) -> None:
        """Start it, or start it again under the same address; returns when its dashboard answers."""
        (self._folder / "ray" / "ray_current_cluster").unlink(missing_ok=True)
        words = ["--head", f"--port={self.gcs}", "--num-cpus=0", f"--temp-dir={self._folder}/ray"]
        words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}", "--include-dashboard=true"]
        words += [f"--ray-client-server-port={self._client}"]
        self.head = Node("head", self._folder, words, self._environ)
        assert until(lambda: self.applications() is not None, START_S, 0.2), self.head.log.read_text()[-3000:]

    def add_worker(self, cpus: int = 4) -> Node:
        """One node more, which takes replicas."""
        address = f"{_own_address()}:{self.gcs}"
        name = f"worker{len(self.workers)}"
        self.workers.append(Node(name, self._folder, [f"--address={address}", f"--num-cpus={cpus}"], self._environ))
        return self.workers[-1]

    def deploy(self, config: Mapping[str, object]) -> None:
        """What KubeRay does with serveConfigV2. Raises httpx.HTTPStatusError."""
        asked = httpx.put(f"{self._serve_api}", json=dict(config), headers=self._headers, timeout=60)
        asked.raise_for_status()

    def applications(self) -> dict[str, dict] | None:
        """What Serve tells of each application; None while nobody tells."""
        try:
            answer = httpx.get(self._serve_api, headers=self._headers, timeout=10)
            return answer.json()["applications"] if answer.is_success else None
        except (httpx.HTTPError, ValueError):
            return None

    def runs(self) -> bool:
        """Whether all applications do."""
        told = self.applications()
        return bool(told) and all(each["status"] == "RUNNING" for each in told.values())

    def replicas(self, node: Node | None = None) -> list[int]:
        """Processes of the Trainer deployment, on one node or on all."""
        nodes = [node] if node else [*self.workers, *([self.head] if self.head else [])]
        return [pid for each in nodes for pid in each.pids(b"ray::ServeReplica:trainer")]

    def end(self) -> None:
        for node in (*self.workers, *([self.head] if self.head else [])):
            node.end()

    @property
    def _serve_api(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}/api/serve/applications/"

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def config_of(port: int, **args: object) -> dict[str, object]:
    """A Serve config file with both applications, as the chart writes it."""
    apps = (("trainer", "/", "build_trainer"), ("predictor", "/predict", "build_predictor"))
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": port},  # noqa: S104 - as in a pod
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        "applications": [
            {"name": name, "route_prefix": prefix, "import_path": f"daemon.trainer:{build}", "args": args}
            for name, prefix, build in apps
        ],
    }


@contextmanager
def cluster(
    key_file: Path, *, port: int, redis: str = "", system: Mapping[str, object] | None = None
) -> Iterator[Cluster]:
    """A cluster whose applications are to answer at `port`; it ends with the `with`, and nothing of it is started."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pr-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = Cluster(folder, key_file, port, redis, system or {})
        stack.callback(made.end)
        yield made


def _own_address() -> str:
    """Ray takes this machine's address for a loopback one."""
    from ray._private import services  # noqa: PLC0415

    return services.get_node_ip_address()


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
