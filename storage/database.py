"""What the Store asks of a database. SQLite and PostgreSQL give it, each in a module of its own."""

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

EVERYONE = "*"
"""The scope of the system itself; any other is the tenant whose rows alone can be seen and changed."""

FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Writing:
    """A transaction that writes, and its time: where several machines share a database, the database's own."""

    connection: Connection
    now: datetime


class Database(Protocol):
    """An open database. Thread-safe."""

    dialect: str
    """Which kind it is, as SQLAlchemy calls it."""

    @property
    def name(self) -> str:
        """Which one it is, for messages: without a password."""
        ...

    @property
    def failed(self) -> bool:
        """Whether nothing can be written any more, because what was written last may be lost: start a new process."""
        ...

    def write(self, now: datetime = ..., scope: str = ...) -> AbstractContextManager[Writing]:
        """One transaction: committed and durable at the end, or nothing of it remains."""
        ...

    def read(self, scope: str = ...) -> AbstractContextManager[Connection]:
        """One snapshot."""
        ...

    def migrate(self, upgrade: Callable[[Connection], None]) -> None:
        """Run `upgrade` in one transaction, while nobody else migrates."""
        ...

    def scrub(self) -> bool:
        """Have no file that is read hold what was changed or deleted. False: somebody was in the way."""
        ...

    def no_older_readers(self, since: datetime) -> bool:
        """Whether every reader that is left began after `since`, by the database's clock."""
        ...

    def size_bytes(self, connection: Connection) -> int: ...

    def close(self) -> None: ...
