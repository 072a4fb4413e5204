"""The daemon as the demo runs it: a child process of its own, on a free port, with fresh data and keys."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from daemon.errors import DaemonError

READY_S = 180.0
ROOT = Path(__file__).resolve().parents[2]


class DaemonNotReady(DaemonError):
    """The daemon did not become ready."""

    def __init__(self, seconds: float, log: str) -> None:
        super().__init__(seconds, log)
        self.seconds, self.log = seconds, log

    def __str__(self) -> str:
        return f"the daemon was not ready after {self.seconds:.0f} s; its log is {self.log}"


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that answers: where, and the tokens of its first callers."""

    url: str
    folder: Path
    host_token: str = field(repr=False)
    operator_token: str = field(repr=False)


@contextmanager
def daemon(folder: Path, choices: Mapping[str, str], on_wait: Callable[[str], None]) -> Iterator[Running]:
    """Run a daemon over `folder` (emptied first) until the `with` ends. Raises DaemonNotReady."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    port, log = _free_port(), folder / "daemon.log"
    ours = {
        "PLORA_DATA_DIR": str(folder / "data"),
        "PLORA_KEYS_DIR": str(folder / "keys"),
        "PLORA_PORT": str(port),
        **choices,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLORA_")}
    with log.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "daemon", "serve"], cwd=ROOT, env={**kept, **ours}, stdout=out, stderr=out
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(child, url, log, on_wait)
        keys = folder / "keys"
        tokens = [(keys / f"{name}.token").read_text().strip() for name in ("host", "operator")]
        yield Running(url, folder, *tokens)
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait(child: "subprocess.Popen[bytes]", url: str, log: Path, on_wait: Callable[[str], None]) -> None:
    """Until the daemon is ready and its trainer answers."""
    begun = time.monotonic()
    while time.monotonic() - begun < READY_S:
        if child.poll() is not None:
            break
        try:
            seen = httpx.get(f"{url}/readyz", timeout=5).json()
            if seen["ready"] and not any(cause["code"] == "trainer_down" for cause in seen["causes"]):
                return
            on_wait(", ".join(cause["code"] for cause in seen["causes"]))
        except (httpx.HTTPError, ValueError, KeyError):
            on_wait("starting")
        time.sleep(0.5)
    raise DaemonNotReady(time.monotonic() - begun, str(log))


def _free_port() -> int:
    """A port that is free now and outside the range Ray's workers take theirs from."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if not 10_002 <= port <= 19_999:
            return port
