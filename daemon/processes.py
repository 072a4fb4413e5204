"""Ending the processes of a trainer child: those it started, and no others.

Neither a process group nor a process tree names them all: Ray's daemons move to groups and parents of their own. A
process counts as started by the child when the environment it inherited names the child's directory or, where it has
overwritten its environment with a title, when it is of the child's session and has a file of that directory open. It is
ended through a pidfd after a second look, so a reused pid cannot be hit.
"""

import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "PLORA_TRAINER_DIRECTORY"


@dataclass(frozen=True, slots=True)
class Started:
    """What a child started: by its private directory, and its session id if that is known."""

    directory: str
    session: int | None = None

    def pids(self) -> list[int]:
        """The processes that run now, without this one. Empty where there is no /proc."""
        return [pid for pid in _pids() if pid != os.getpid() and self._has(pid)]

    def end(self, timeout_s: float) -> int:
        """Kill them all, wait until each is gone, and say how many there were."""
        count = 0
        while True:
            handles = [handle for pid in self.pids() if (handle := self._kill(pid)) is not None]
            if not handles:
                return count
            count += len(handles)
            for handle in handles:
                select.select([handle], [], [], timeout_s)
                os.close(handle)

    def _has(self, pid: int) -> bool:
        folder = Path(f"/proc/{pid}")
        try:
            if folder.stat().st_uid != os.geteuid() or _state(folder) in "ZX":
                return False
            if f"{MARK}={self.directory}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return True
            return self.session is not None and os.getsid(pid) == self.session and self._is_open_in(folder)
        except OSError:
            return False

    def _is_open_in(self, folder: Path) -> bool:
        return any(os.readlink(entry).startswith(f"{self.directory}/") for entry in (folder / "fd").iterdir())

    def _kill(self, pid: int) -> int | None:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return None
        if self._has(pid):  # looked at again, now that the pid cannot pass to another
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            except ProcessLookupError:
                pass
            else:
                return handle
        os.close(handle)
        return None


def _pids() -> Iterator[int]:
    proc = Path("/proc")
    if proc.is_dir():
        yield from (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())


def _state(folder: Path) -> str:
    """The kernel's letter for what a process does: Z is dead but not yet reaped."""
    return (folder / "stat").read_text(errors="replace").rpartition(") ")[2][:1]
