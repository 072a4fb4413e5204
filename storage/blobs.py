"""Files for sealed things too large for a row. A file is complete and durable before a row names it.

A blob is named by the SHA-256 of its ciphertext, so its name says nothing about its content, and a damaged
file does not answer to its name.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from storage.database import FULL_ERRNO
from storage.errors import DiskFailed, DiskFull, Unreadable
from storage.keyfiles import sync_directory

SUFFIX = ".blob"
TEMPORARY = ".tmp"


class Blobs:
    """A directory of blobs, mode 0700."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(self, sealed: bytes) -> str:
        """Store `sealed` durably and return its name. Raises DiskFull or DiskFailed, leaving nothing."""
        name = hashlib.sha256(sealed).hexdigest()
        temporary = self.directory / f"{name}.{secrets.token_hex(8)}{TEMPORARY}"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path(name))
            sync_directory(self.directory)
        except OSError as problem:
            with suppress(OSError):
                temporary.unlink()
            if problem.errno in FULL_ERRNO:
                raise DiskFull(str(self.directory), "no space left") from problem
            raise DiskFailed(str(self.directory), os.strerror(problem.errno or errno.EIO)) from problem
        return name

    def read(self, name: str) -> bytes:
        """Raises Unreadable when the file is gone or is not what was stored."""
        try:
            sealed = self._path(name).read_bytes()
        except FileNotFoundError:
            raise Unreadable(f"blob {name}") from None
        if hashlib.sha256(sealed).hexdigest() != name:
            raise Unreadable(f"blob {name}")
        return sealed

    def list(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob(f"*{SUFFIX}"))

    def sweep(self, listed: Iterable[str], live: set[str], before: datetime) -> int:
        """Remove what no row names and is older than `before`; returns how many.

        `listed` must have been taken before `live` was read, or a blob published in between would look dead.
        """
        dead = [self._path(name) for name in listed if name not in live]
        removed = 0
        for path in (*dead, *self.directory.glob(f"*{TEMPORARY}")):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()
                    removed += 1
        return removed

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{SUFFIX}"
