"""Blobs: sealed things too large for a row, and files for others to keep. One is complete and durable once it is kept.

A blob is named by the SHA-256 of its ciphertext, so its name says nothing about its content, and a damaged one
does not answer to its name. What is put under a given name, an export, is never replaced.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime

from storage.errors import BadRecord, Unreadable

SUFFIX = ".blob"
NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class Blobs(ABC):
    """A place for blobs: a directory, or a bucket. Thread-safe."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, without secrets, for people to read."""

    def keep(self, sealed: bytes) -> str:
        """Store `sealed` durably and return its name.

        Raises DiskFull, DiskFailed, BlobsAway or BlobsRefused, leaving nothing under that name but these very bytes.
        """
        name = hashlib.sha256(sealed).hexdigest()
        self._create(name + SUFFIX, sealed)
        return name

    def read(self, name: str) -> bytes:
        """Raises Unreadable when the blob is gone or is not what was stored; BlobsAway while it can not be told."""
        sealed = self._content(name + SUFFIX)
        if sealed is None or hashlib.sha256(sealed).hexdigest() != name:
            raise Unreadable(f"blob {name}")
        return sealed

    def list(self) -> Sequence[str]:
        """The names of all blobs, in order; exports are not among them."""
        return sorted(name.removesuffix(SUFFIX) for name in self._names("") if name.endswith(SUFFIX))

    def sweep(self, listed: Iterable[str], live: set[str], before: datetime) -> int:
        """Remove what no row names and is older than `before`; returns how many.

        `listed` must have been taken before `live` was read, or a blob published in between would look dead.
        """
        return self._sweep([name + SUFFIX for name in listed if name not in live], before)

    def delete(self, name: str) -> None:
        """Remove a blob and every older version of it that the place has kept; one that is not there is no error."""
        self._remove(name + SUFFIX)

    def put(self, name: str, content: bytes) -> None:
        """Export `content` durably under `name`. The same again is harmless; other content raises BlobTaken."""
        self._create(checked(name), content)

    def get(self, name: str) -> bytes:
        """What was put under `name`. Raises Unreadable when there is nothing."""
        content = self._content(checked(name))
        if content is None:
            raise Unreadable(f"export {name}")
        return content

    def names(self, prefix: str = "") -> Sequence[str]:
        """The names of what was put, those that begin with `prefix`, in order."""
        return sorted(name for name in self._names(prefix) if not name.endswith(SUFFIX))

    @abstractmethod
    def _create(self, name: str, content: bytes) -> None: ...

    @abstractmethod
    def _content(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _names(self, prefix: str) -> Iterable[str]: ...

    @abstractmethod
    def _sweep(self, dead: Iterable[str], before: datetime) -> int: ...

    @abstractmethod
    def _remove(self, name: str) -> None: ...


def checked(name: str) -> str:
    """`name`, if it is no path and no blob's. Raises BadRecord."""
    if NAMES.fullmatch(name) is None or name.endswith((SUFFIX, ".tmp")):
        raise BadRecord("name", "1 to 200 letters, digits, dots, dashes and underscores, not the name of a blob")
    return name
