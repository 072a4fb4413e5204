"""The supervised process that runs Ray on one machine: started, watched, started again, and ended with all it started.

A thread of the daemon owns the process. It starts anew after the process exits or stops answering, with a pause that
doubles up to a bound and falls back once the process has answered. Whatever an earlier process left behind, Ray's
daemons among them, is ended first.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from daemon import logs
from daemon.clock import monotonic
from daemon.processes import MARK, Started
from daemon.trainer_order import KEY_FILE, ChildOrder, TrainerOrder

RAY_PORTS = range(10_002, 20_000)
LONGEST_DIRECTORY = 40
"""Ray appends about 65 characters to it for a Unix socket, whose name may have 107 bytes."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the supervisor is, in seconds."""

    start_s: float = 180.0
    look_s: float = 2.0
    answer_s: float = 10.0
    misses: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    stop_s: float = 8.0


@dataclass(slots=True)
class _Process:
    process: subprocess.Popen[bytes]
    url: str
    exited: threading.Event = field(default_factory=threading.Event)


class RayChild:
    """Keeps one trainer process running between `start` and `stop`. `on_change` is told whenever `url` changes."""

    def __init__(
        self,
        order: TrainerOrder,
        *,
        key_file: Path,
        data_dir: Path,
        pace: Pace | None = None,
        on_change: Callable[[bool], None] = lambda _: None,
        command: Sequence[str] = (sys.executable, "-m", "daemon.trainer"),
    ) -> None:
        self.directory = session_directory(data_dir)
        self._log_file, self._session_file = data_dir / "trainer.log", data_dir / "trainer.session"
        self._order, self._key_file, self._pace, self._on_change = order, key_file, pace or Pace(), on_change
        self._command = list(command)
        self._client = httpx.Client(timeout=self._pace.answer_s, trust_env=False)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._current: _Process | None = None
        self._ready = False
        self._starts = 0
        self._thread = threading.Thread(target=self._supervise, name="trainer-child", daemon=True)

    @property
    def url(self) -> str | None:
        """Where the Trainer answers, or None while it does not."""
        with self._changed:
            return self._current.url if self._current and self._ready else None

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        with self._changed:
            return self._current.process.pid if self._current else None

    @property
    def restarts(self) -> int:
        """How often a child was started after the first."""
        with self._changed:
            return max(0, self._starts - 1)

    def start(self) -> None:
        """Start supervising; returns at once."""
        self._thread.start()

    def wait_ready(self, timeout_s: float, *, after_restarts: int = 0) -> bool:
        """Whether the child, or the one after so many restarts, answers within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ready and self._starts > after_restarts, timeout_s)

    def stop(self) -> None:
        """End the child and everything it started."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._client.close()

    def _supervise(self) -> None:
        pause_s = self._pace.first_pause_s
        while not self._stopping.is_set():
            try:
                answered = self._run_once()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next child may live
                logs.write_error("trainer_start", error)
                answered = False
            if answered:
                pause_s = self._pace.first_pause_s
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, self._pace.longest_pause_s)

    def _run_once(self) -> bool:
        """Run one child until it ends; whether it ever answered."""
        self._started().end(self._pace.stop_s)  # also what a daemon that was killed has left
        child = self._launch()
        try:
            if not self._wait_answering(child):
                return False
            self._become(child, ready=True)
            self._watch(child)
            return True
        finally:
            self._become(child, ready=False)
            self._end(child)

    def _launch(self) -> _Process:
        shutil.rmtree(self.directory, ignore_errors=True)
        Path(self.directory).mkdir(mode=0o700, parents=True)
        port = free_port()
        order = ChildOrder(self._order, "127.0.0.1", port, self.directory)
        with self._log_file.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=_root(),
                env=self._environment(),
                start_new_session=True,
            )
        self._session_file.write_text(f"{process.pid}\n")
        child = _Process(process, f"http://127.0.0.1:{port}")
        threading.Thread(target=self._await_exit, args=(child,), daemon=True).start()
        if process.stdin is not None:
            process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            process.stdin.flush()  # and stays open: its end tells the child that we are gone
        with self._changed:
            self._starts += 1
        self._become(child, ready=False)
        logs.write("trainer_started", {"pid": process.pid, "port": port, "restarts": self.restarts})
        return child

    def _await_exit(self, child: _Process) -> None:
        child.process.wait()
        child.exited.set()
        self._wake.set()

    def _wait_answering(self, child: _Process) -> bool:
        deadline = monotonic() + self._pace.start_s
        while monotonic() < deadline and not self._is_over(child):
            if self._answers(f"{child.url}/ready") and self._answers(f"{child.url}/predict/ready"):
                return True
            self._pause(child, 0.1)
        return False

    def _watch(self, child: _Process) -> None:
        """Return when the child has exited, has stopped answering, or is to stop."""
        missed = 0
        while missed < self._pace.misses:
            self._pause(child, self._pace.look_s)
            if self._is_over(child):
                return
            missed = 0 if self._answers(f"{child.url}/-/healthz") else missed + 1
        logs.write("trainer_silent", {"pid": child.process.pid})

    def _answers(self, url: str) -> bool:
        try:
            return self._client.get(url).is_success
        except httpx.HTTPError:
            return False

    def _pause(self, child: _Process, seconds: float) -> None:
        if not self._is_over(child):
            self._wake.wait(seconds)
            self._wake.clear()

    def _is_over(self, child: _Process) -> bool:
        return child.exited.is_set() or self._stopping.is_set()

    def _become(self, child: _Process, *, ready: bool) -> None:
        with self._changed:
            before = self._ready
            self._current, self._ready = child, ready
            self._changed.notify_all()
        if before != ready:
            self._on_change(ready)

    def _end(self, child: _Process) -> None:
        """Ask the child to leave, then end what is left of it."""
        if child.process.stdin is not None:
            with suppress(OSError):
                child.process.stdin.close()
        if not child.exited.is_set():
            child.process.terminate()
            if not child.exited.wait(self._pace.stop_s):
                child.process.kill()
                child.exited.wait(self._pace.stop_s)
        left = self._started().end(self._pace.stop_s)
        with self._changed:
            self._current = None
        logs.write("trainer_ended", {"pid": child.process.pid, "status": child.process.returncode, "count": left})

    def _started(self) -> Started:
        """What the latest child started, in the life of this daemon or of one before it."""
        try:
            return Started(self.directory, int(self._session_file.read_text()))
        except (OSError, ValueError):
            return Started(self.directory)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PLORA_", "RAY_"))}
        paths = [_root(), *filter(None, [os.environ.get("PYTHONPATH")])]
        return kept | {
            MARK: self.directory,
            KEY_FILE: str(self._key_file.resolve()),
            "PYTHONPATH": os.pathsep.join(paths),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": os.urandom(32).hex(),  # a Ray of our own: nobody else's token file is read or written
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(self._order.threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads that spin made fits four times slower beside any other load
        }


def session_directory(data_dir: Path) -> str:
    """Where Ray keeps its sockets and logs: the same name for the same data directory, short enough for a socket."""
    own = str(data_dir.resolve() / "ray")
    if len(own) <= LONGEST_DIRECTORY:
        return own
    name = f"plora-{os.geteuid()}-{hashlib.sha256(own.encode()).hexdigest()[:12]}"
    parent = tempfile.gettempdir()
    return str(Path(parent if len(parent) + len(name) < LONGEST_DIRECTORY else "/tmp") / name)  # noqa: S108


def free_port() -> int:
    """A port of the loopback that is free now and that Ray will not give to a worker."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in RAY_PORTS:
            return port


def _root() -> str:
    return str(Path(__file__).resolve().parent.parent)
