"""Blobs as files. A file is complete and durable before it has its name."""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from storage.blobs import SUFFIX, Blobs
from storage.database import FULL_ERRNO
from storage.errors import BlobTaken, DiskFailed, DiskFull
from storage.keyfiles import sync_directory

TEMPORARY = ".tmp"


class FileBlobs(Blobs):
    """A directory of blobs, mode 0700."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def place(self) -> str:
        return str(self.directory)

    def _create(self, name: str, content: bytes) -> None:
        path = self.directory / name
        temporary = self.directory / f"{name}.{secrets.token_hex(8)}{TEMPORARY}"
        with self._translated():
            try:
                _write(temporary, content)
                # failpoint: blob-before-rename
                if name.endswith(SUFFIX):
                    temporary.replace(path)  # what stood there was these very bytes, or damaged
                else:
                    os.link(temporary, path, follow_symlinks=False)  # unlike rename, it refuses an existing name
                # failpoint: blob-before-directory-sync
                sync_directory(self.directory)
            except FileExistsError:
                if path.read_bytes() != content:
                    raise BlobTaken(self.place, name) from None
            finally:
                with suppress(OSError):
                    temporary.unlink()

    def _content(self, name: str) -> bytes | None:
        with self._translated():
            try:
                return (self.directory / name).read_bytes()
            except FileNotFoundError:
                return None

    def _names(self, prefix: str) -> Iterable[str]:
        found = (path.name for path in self.directory.iterdir())
        return [name for name in found if name.startswith(prefix) and not name.endswith(TEMPORARY)]

    def _sweep(self, dead: Iterable[str], before: datetime) -> int:
        """What a crash left half-written goes too."""
        removed = 0
        for path in (*(self.directory / name for name in dead), *self.directory.glob(f"*{TEMPORARY}")):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()
                    removed += 1
        return removed

    def _remove(self, name: str) -> None:
        with self._translated(), suppress(FileNotFoundError):
            (self.directory / name).unlink()
            sync_directory(self.directory)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if problem.errno in FULL_ERRNO:
                raise DiskFull(self.place, "no space left") from problem
            raise DiskFailed(self.place, os.strerror(problem.errno or 5)) from problem


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
