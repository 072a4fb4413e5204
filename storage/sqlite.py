"""The SQLite file: one connection that writes, a few that only read, and the settings on which promises rest.

The single writing connection also does every checkpoint, and readers do none. SQLite from 3.7.0 to 3.51.2 can
corrupt a WAL when one connection checkpoints while another commits; with one writer, guarded by a lock in this
process and by a lock file between processes, that never happens.
"""

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool

from storage.columns import START
from storage.database import EVERYONE, FULL_ERRNO, Writing
from storage.errors import (
    DiskFailed,
    DiskFull,
    StorageError,
    StoreBusy,
    StoreDamaged,
    StoreInUse,
    UnsupportedDatabase,
    WrongPragma,
)
from storage.volumes import refuse_network

PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "2",  # FULL: an acknowledged commit survives power loss; NORMAL loses it
    "foreign_keys": "1",
    "secure_delete": "1",
    "trusted_schema": "0",
    "temp_store": "2",  # MEMORY: no temporary file ever holds a row
    "busy_timeout": "10000",
}
WRITER = {"wal_autocheckpoint": "1000"}
READER = {"wal_autocheckpoint": "0", "query_only": "1"}

# A write refused by a quota or file size limit comes as an I/O error of the write.
FULL_CODES = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_TRUNCATE,
}
SYNC_CODES = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}
ABANDONED: list[Engine] = []
"""Writers after a failed sync, kept until the process ends: closing the last connection checkpoints."""


class Cursor(Protocol):
    def execute(self, statement: str, /) -> object: ...
    def fetchone(self) -> tuple[object, ...] | None: ...
    def close(self) -> None: ...


class DriverConnection(Protocol):
    isolation_level: str | None

    def cursor(self) -> Cursor: ...


class SQLite:
    """An open database file."""

    dialect = "sqlite"

    def __init__(self, url: str, admit: Callable[[Path], None]) -> None:
        """`admit` raises when files must not be made in the database's directory."""
        self.path = _path(url)
        self.name = str(self.path)
        self._wal = self.path.with_name(self.path.name + "-wal")
        admit(self.path.parent)
        refuse_network(self.path.parent)
        self._lock = _lock_file(self.path)
        self._writing = threading.Lock()
        self._failed = self._closed = False
        address = f"sqlite:///{self.path}"
        try:
            _create(self.path)
            _write_again(self._wal)
            self._writer = _engine(address, "BEGIN IMMEDIATE", PRAGMAS | WRITER, StaticPool)
            self._readers = _engine(address, "BEGIN", PRAGMAS | READER, QueuePool)
            with self.write():  # the first connection shows whether the file is a database, and takes the settings
                pass
        except BaseException:
            os.close(self._lock)
            raise

    @contextlib.contextmanager
    def write(self, now: datetime = START, scope: str = EVERYONE) -> Iterator[Writing]:  # noqa: ARG002
        """One BEGIN IMMEDIATE transaction. The caller's clock is this database's: both are of one machine."""
        self._need_synced()
        with self._writing, self._translated(), self._writer.connect() as connection, connection.begin():
            yield Writing(connection, now)

    @contextlib.contextmanager
    def read(self, scope: str = EVERYONE) -> Iterator[Connection]:  # noqa: ARG002
        """One snapshot. Keep it short: `scrub` waits for it."""
        with self._translated(), self._readers.connect() as connection, connection.begin():
            yield connection

    def migrate(self, upgrade: Callable[[Connection], None]) -> None:
        """Run `upgrade` in one transaction."""
        with self.write() as writing:
            upgrade(writing.connection)

    def no_older_readers(self, since: datetime) -> bool:  # noqa: ARG002
        """An emptied WAL says so: it can not be emptied under a reader of it."""
        return self.scrub()

    def scrub(self) -> bool:
        """Move the WAL into the database and empty it. False when a reader was in the way for too long."""
        self._need_synced()
        with self._writing, self._translated(), self._writer.connect() as connection:
            driver = connection.connection.driver_connection
            if driver is None:
                raise StoreBusy(str(self.path))
            cursor = driver.cursor()
            try:
                busy: int = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                cursor.close()
        return busy == 0

    @property
    def failed(self) -> bool:
        """Whether a sync has failed. The kernel may have dropped what it was to write, and the next sync would succeed
        without it: nothing is written any more until a new process has read the files again and written them anew.
        """
        return self._failed

    def _need_synced(self) -> None:
        if self._failed:
            raise DiskFailed(self.name, "an earlier sync failed")

    def size_bytes(self, connection: Connection) -> int:  # noqa: ARG002
        """Of the database and its WAL."""
        files = (self.path, self._wal)
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """The writer goes last, because the last connection to close does the final checkpoint. Again is harmless."""
        self._readers.dispose()
        with self._writing:
            if self._failed:
                ABANDONED.append(self._writer)
            else:
                self._writer.dispose()
            if not self._closed:  # the descriptor may be another file's by now
                self._closed = True
                os.close(self._lock)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error, OSError) as problem:
            origin = problem.orig if isinstance(problem, DBAPIError) else problem
            self._failed |= getattr(origin, "sqlite_errorcode", 0) in SYNC_CODES
            known = translate(origin, self.path)
            if known is None:
                raise
            raise known from problem


def translate(problem: BaseException | None, path: Path) -> StorageError | None:
    """The error of this package that a foreign one means, if it means one."""
    place = str(path)
    if isinstance(problem, OSError) and problem.errno in FULL_ERRNO:
        return DiskFull(place, "no space left")
    if isinstance(problem, OSError) and problem.errno == errno.EIO:
        return DiskFailed(place, "disk I/O error")
    if not isinstance(problem, sqlite3.Error):
        return None
    code = getattr(problem, "sqlite_errorcode", 0)
    if code in FULL_CODES:
        return DiskFull(place, "no space left")
    # Primary result codes are the low byte of an extended one (https://sqlite.org/rescode.html).
    meanings: dict[int, StorageError] = {
        sqlite3.SQLITE_IOERR: DiskFailed(place, f"disk I/O error {code}"),
        sqlite3.SQLITE_READONLY: DiskFailed(place, "the file can not be written"),
        sqlite3.SQLITE_CANTOPEN: DiskFailed(place, "the file can not be opened"),
        sqlite3.SQLITE_BUSY: StoreBusy(place),
        sqlite3.SQLITE_LOCKED: StoreBusy(place),
        sqlite3.SQLITE_CORRUPT: StoreDamaged(place, "its pages do not add up"),
        sqlite3.SQLITE_NOTADB: StoreDamaged(place, "not an SQLite database"),
    }
    return meanings.get(code & 0xFF)


def _path(url: str) -> Path:
    try:
        address = make_url(url)
    except ArgumentError as problem:
        raise UnsupportedDatabase(url.partition(":")[0]) from problem
    if address.get_backend_name() != "sqlite" or address.database in {None, "", ":memory:"} or address.query:
        raise UnsupportedDatabase(address.get_backend_name())
    return Path(str(address.database)).absolute()


def _lock_file(path: Path) -> int:
    """Held for as long as the database is open; the kernel frees it however the process ends."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(handle)
        raise StoreInUse(str(path)) from problem
    return handle


def _create(path: Path) -> None:
    """Make the file ours alone before SQLite opens it; its WAL and index files take the same mode."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def _write_again(wal: Path) -> None:
    """Have the disk hold the WAL that SQLite is about to read.

    After a sync that failed, a file may read well from memory while the disk has an older one: a checkpoint would then
    bring the database past a WAL that a power cut plays over it again.
    """
    with contextlib.suppress(FileNotFoundError), wal.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _engine(address: str, begin: str, pragmas: dict[str, str], pool: type[StaticPool] | type[QueuePool]) -> Engine:
    engine = create_engine(
        address,
        poolclass=pool,
        connect_args={"check_same_thread": False, "timeout": 10},
        hide_parameters=True,  # an error's text must not carry a row
    )
    event.listen(engine, "connect", _prepared(pragmas))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _prepared(pragmas: dict[str, str]) -> Callable[[DriverConnection, object], None]:
    def prepare(driver: DriverConnection, record: object) -> None:  # noqa: ARG001
        driver.isolation_level = None  # else the driver begins transactions of its own choice
        cursor = driver.cursor()
        try:
            for name, needed in pragmas.items():
                cursor.execute(f"PRAGMA {name} = {needed}")
                cursor.execute(f"PRAGMA {name}")
                found = cursor.fetchone()
                if found is None or str(found[0]) != needed:
                    raise WrongPragma(name, needed, "nothing" if found is None else str(found[0]))
        finally:
            cursor.close()

    return prepare
