"""The gatekeeper: has every file from outside looked at by a process that has little to lose, before anybody uses it.

The process is kept for many files and then replaced, as it is when it dies or falls silent. Files go to it over a pipe,
never over a disk. A file in whose company it died counts as refused.
"""

import json
import os
import select
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from daemon import logs
from daemon.choices import Bounds
from daemon.errors import DaemonError

LENGTHS = struct.Struct(">IQ")
PIECE = 1 << 16
AT_ONCE = 512
"""Files asked about together: their answers must fit a pipe's buffer."""

DIED = "gate_died"
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONHOME")


class GateClosed(DaemonError):
    """The process that looks at files does not start."""

    def __str__(self) -> str:
        return "the process that checks files does not start: see that memory and processes are to be had"


@dataclass(frozen=True, slots=True)
class Entering:
    """A file that wants in, and what it must be made for, or be: base model and Basis, or the Basis `fingerprint`."""

    kind: Literal["adapter", "statistics", "basis", "low_rank"]
    data: bytes = field(repr=False)
    base: str | None = None
    basis: str | None = None
    fingerprint: str | None = None


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    requests: int
    answers: int
    files: int = 0
    shown: set[str] = field(default_factory=set)
    heard: bytearray = field(default_factory=bytearray)


class Gatekeeper:
    """Asks for a code for each file: why it is refused, or None. Thread-safe."""

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        files_each: int = 2_000,
        silence_s: float = 30.0,
        command: Sequence[str] = (sys.executable, "-m", "daemon.gate_child"),
    ) -> None:
        self._bounds, self._files_each, self._silence_s = bounds or Bounds(), files_each, silence_s
        self._command = list(command)
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def check(self, entering: Sequence[Entering]) -> list[str | None]:
        """The code by which each file is refused; None where it may come in. Raises GateClosed."""
        codes: list[str | None] = []
        with self._lock:
            while len(codes) < len(entering):
                child = self._ready()
                asked = entering[len(codes) : len(codes) + min(AT_ONCE, self._files_each - child.files)]
                found = self._ask(child, asked)
                child.files += len(found)
                if len(found) < len(asked):
                    found.append(DIED)
                    self._end()
                codes += [code or None for code in found]
        return codes

    def knows(self, fingerprint: str) -> bool:
        """Whether the process has seen this Basis, so that it knows what adapters must be like."""
        with self._lock:
            child = self._child
            return child is not None and child.files + AT_ONCE < self._files_each and fingerprint in child.shown

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ready(self) -> _Child:
        if self._child is not None and (
            self._child.files >= self._files_each or self._child.process.poll() is not None
        ):
            self._end()
        if self._child is None:
            self._child = self._start()
            if self._exchange(self._child, deque(), 1) != [""]:
                self._end()
                raise GateClosed
        return self._child

    def _start(self) -> _Child:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        root = str(Path(__file__).resolve().parent.parent)
        one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | one_thread | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))},
            cwd="/",
        )
        if process.stdin is None or process.stdout is None:
            raise GateClosed
        os.set_blocking(process.stdin.fileno(), False)
        return _Child(process, process.stdin.fileno(), process.stdout.fileno())

    def _ask(self, child: _Child, asked: Sequence[Entering]) -> list[str]:
        parts: deque[memoryview] = deque()
        for each in asked:
            order = json.dumps({"kind": each.kind, "expected": self._expected(each)}).encode()
            parts.append(memoryview(LENGTHS.pack(len(order), len(each.data)) + order))
            if each.data:
                parts.append(memoryview(each.data))
        found = self._exchange(child, parts, len(asked))
        passed = zip(asked, found, strict=False)
        child.shown |= {each.fingerprint for each, code in passed if each.fingerprint is not None and not code}
        return found

    def _expected(self, each: Entering) -> Mapping[str, object]:
        return asdict(self._bounds) | {"base": each.base, "basis": each.basis, "fingerprint": each.fingerprint}

    def _exchange(self, child: _Child, parts: deque[memoryview], count: int) -> list[str]:
        """As many of `count` answers as come before the child dies or is silent for too long."""
        found: list[str] = []
        poll = select.poll()
        poll.register(child.answers, select.POLLIN)
        if parts:
            poll.register(child.requests, select.POLLOUT)
        while len(found) < count and (events := dict(poll.poll(1_000 * self._silence_s))):
            if child.requests in events:
                _send(child.requests, parts)
                if not parts:
                    poll.unregister(child.requests)
            if child.answers in events:
                heard = os.read(child.answers, PIECE)
                if not heard:
                    break
                child.heard += heard
                found += _told(child.heard)
        return found

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        process = child.process
        with suppress(OSError):
            process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        status = process.wait()
        logs.write("gate_ended", {"pid": process.pid, "status": status, "count": child.files})


def _send(requests: int, parts: deque[memoryview]) -> None:
    """Some of it; nothing more once nobody reads: what was answered before is still to be heard."""
    part = parts[0]
    try:
        sent = os.write(requests, part[:PIECE])
    except BrokenPipeError:
        parts.clear()
        return
    if sent < len(part):
        parts[0] = part[sent:]
    else:
        parts.popleft()


def _told(heard: bytearray) -> list[str]:
    """Take the whole answers off the front."""
    found = []
    while heard and len(heard) > heard[0]:
        end = 1 + heard[0]
        found.append(bytes(heard[1:end]).decode())
        del heard[:end]
    return found
