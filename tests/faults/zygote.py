"""Processes that start in milliseconds: a server that has imported what is slow to import, and forks for each order.

A forked child is a process of its own, to be killed like any other. It dies with the server, and that with the test.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.faults import failpoints
from tests.faults.failpoints import ROOT, Change

STORAGE = (
    "sqlalchemy.dialects.sqlite",
    "alembic.command",
    "alembic.runtime.migration",
    "cryptography.hazmat.bindings._rust",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "mako.template",
)
DAEMON = (
    "fastapi",
    "uvicorn",
    "uvicorn.protocols.http.h11_impl",
    "uvicorn.lifespan.on",
    "httpx",
    "prometheus_client",
    "transformers",
    "torch",
    "torch._dynamo",
)
POSTGRES = ("psycopg", "sqlalchemy.dialects.postgresql.psycopg")
OURS = ("daemon.server", "daemon.service", "plora", "tests.faults.serving")
PR_SET_PDEATHSIG = 1


class Child:
    """A process that was forked for us."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._reader = connection, connection.makefile("r")
        self.pid = int(self._reader.readline())
        try:
            self._handle: int | None = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._handle = None

    def signal(self, number: int) -> None:
        """To this process and no other that may have its number by now."""
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it has ended."""
        if self._handle is None:
            return True
        return bool(select.select([self._handle], [], [], timeout_s)[0])

    def result(self):
        """What its function returned; None when it died before."""
        line = self._reader.readline()
        answer = json.loads(line) if line else {"returned": None}
        if "raised" in answer:
            raise AssertionError(answer["raised"])
        return answer["returned"]

    def close(self) -> None:
        self._reader.close()
        self._connection.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Zygote:
    """The address of a server of processes."""

    def __init__(self, address: Path) -> None:
        self.address = address

    def start(self, function: str, *, log: Path | None = None, **options: object) -> Child:
        """Call `module:function(**options)` in a new process."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.address))
        order = {"function": function, "options": options, "log": str(log) if log else None}
        connection.sendall(json.dumps(order).encode() + b"\n")
        return Child(connection)

    def call(self, function: str, *, log: Path | None = None, **options: object):
        """What it returns; None when it killed itself."""
        child = self.start(function, log=log, **options)
        try:
            return child.result()
        finally:
            child.kill()
            child.close()

    def variant(self, modules: Sequence[str], changes: Sequence[Change] = ()) -> "Zygote":
        """A server forked from this one, which then imports our code with failpoints and `changes`."""
        address = self.address.with_name(f"{self.address.name}-{os.urandom(4).hex()}")
        told = [[change.path, change.old, change.new] for change in changes]
        child = self.start("tests.faults.zygote:become", address=str(address), modules=list(modules), changes=told)
        if child.result() is None:
            raise AssertionError("the variant could not be imported")
        return Zygote(address)


@contextlib.contextmanager
def zygote(preload: Path | None = None):
    """The first server; it ends with the `with`. `preload` is a library for LD_PRELOAD."""
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    shim = {} if preload is None else {"LD_PRELOAD": str(preload)}
    with tempfile.TemporaryDirectory(prefix="plora-") as folder:
        address = Path(folder) / "z"
        command = [sys.executable, "-m", "tests.faults.zygote", str(address)]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | quiet | shim, stdout=subprocess.PIPE)
        try:
            if process.stdout.readline() != b"ready\n":
                raise AssertionError("no zygote")
            yield Zygote(address)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def become(address: str, modules: Sequence[str], changes: Sequence[Sequence[str]]) -> None:
    """Serve from here: called in a child of another server."""
    failpoints.install([Change(*change) for change in changes])
    _serve(Path(address), modules, lambda: _tell({"returned": True}))


def _serve(address: Path, modules: Sequence[str], ready) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or every child's first collection would look through all of it, and copy its pages
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    ready()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _child(connection)
        connection.close()


_told: list[socket.socket] = []


def _tell(answer: object) -> None:
    _told[-1].sendall(json.dumps(answer).encode() + b"\n")


def _child(connection: socket.socket) -> None:
    _die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    random.seed()
    for old in _told:
        old.close()
    _told.append(connection)
    connection.sendall(f"{os.getpid()}\n".encode())
    order = json.loads(connection.makefile("r").readline())
    out = os.open(order["log"] or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    if order["log"]:
        os.dup2(out, 2)
    try:
        module, _, name = order["function"].partition(":")
        returned = getattr(importlib.import_module(module), name)(**order["options"])
        _tell({"returned": returned})
    except BaseException:  # noqa: BLE001 - told to who ordered it
        with contextlib.suppress(OSError):
            _tell({"raised": traceback.format_exc()})
    finally:
        os._exit(0)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _main() -> None:
    _die_with_parent()
    _serve(Path(sys.argv[1]), STORAGE, lambda: (sys.stdout.write("ready\n"), sys.stdout.flush()))


if __name__ == "__main__":
    sys.modules["tests.faults.zygote"] = sys.modules["__main__"]
    _main()
