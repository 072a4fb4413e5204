"""Backups of the SQLite file and its blobs, each file with its SHA-256. The keys are not in them, nor may they be.

    DIRECTORY/plora.db            the database as it was at one moment
    DIRECTORY/blobs/NAME.blob     every blob that it names
    DIRECTORY/manifest.json       written last: without it, the backup is not complete

The database is read through a connection of its own that can not write and never checkpoints, so a daemon may go on.
"""

import contextlib
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from storage.blobs import SUFFIX, Blobs
from storage.errors import BackupRefused, Unreadable
from storage.exports import Checkpoint, Exports
from storage.keyfiles import sync_directory
from storage.sqlite import translate
from storage.statements import micros

DATABASE, BLOBS, MANIFEST = "plora.db", "blobs", "manifest.json"
FORMAT = 1
NAME = re.compile(r"plora\.db|blobs/[0-9a-f]{64}\.blob")


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds. `missing` are blobs that were lost before it was made."""

    at: int
    schema: str
    files: Mapping[str, str]
    missing: tuple[str, ...] = ()


def back_up(database: Path, blobs: Blobs, to: Path, now: datetime) -> Backup:
    """Copy the database at `database` and its blobs into the new directory `to`. Raises BackupRefused and disk errors.

    The blobs come second: a blob is there before the row that names it, and stays a day longer.
    """
    if not database.exists():
        raise BackupRefused(str(database), "there is no database")
    with _translated(to):
        try:
            to.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise BackupRefused(str(to), "it exists already; name a new directory") from None
        (to / BLOBS).mkdir(mode=0o700)
        schema, named = _copy_database(database, to / DATABASE)
        missing = [name for name in named if not _copy_blob(blobs, name, to / BLOBS)]
        for each in (to / DATABASE, to / BLOBS):
            _sync(each)
        files = {str(path.relative_to(to)): _digest(path) for path in sorted(to.rglob("*")) if path.is_file()}
        made = Backup(micros(now) or 0, schema, files, tuple(missing))
        facts = {"format": FORMAT, "at": made.at, "schema": schema, "files": files, "missing": missing}
        _write(to / MANIFEST, json.dumps(facts, indent=1, sort_keys=True).encode())
        sync_directory(to)
    return made


def restore(source: Path, database: Path, blobs: Blobs, exports: Exports | None, now: datetime) -> Backup:
    """Put a backup back where there is no database. Raises BackupRefused, leaving no database, when it is not whole.

    Says among the exports up to where the audit chain goes now, or all that was exported later would look cut off.
    """
    if database.exists():
        raise BackupRefused(str(database), "a database is there; restore into an empty data directory")
    found = checked(source)
    with _translated(database):
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in found.files:
            if name != DATABASE:
                blobs.keep((source / name).read_bytes())
        temporary = database.with_name(f"{database.name}.restored")
        _write(temporary, (source / DATABASE).read_bytes())
        head = _head(temporary, now)
        if exports is not None and head is not None:
            exports.keep_restored(head)
        # failpoint: restore-before-rename
        temporary.rename(database)
        sync_directory(database.parent)
    return found


def checked(source: Path) -> Backup:
    """The manifest of a backup, all of whose files are there and unaltered. Raises BackupRefused."""
    try:
        facts = json.loads((source / MANIFEST).read_bytes())
        found = Backup(int(facts["at"]), str(facts["schema"]), dict(facts["files"]), tuple(facts["missing"]))
        known = facts["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise BackupRefused(str(source), "its manifest is missing or not one of ours") from problem
    if not known or DATABASE not in found.files or not all(NAME.fullmatch(name) for name in found.files):
        raise BackupRefused(str(source), "its manifest is not one of ours")
    for name, digest in found.files.items():
        path = source / name
        if path.is_symlink() or not path.is_file() or _digest(path) != digest:
            raise BackupRefused(str(source), f"{name} is missing or altered")
    return found


def _copy_database(source: Path, to: Path) -> tuple[str, list[str]]:
    """Its schema, and the blobs it names."""
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as reader,
        contextlib.closing(sqlite3.connect(to)) as copy,
    ):
        reader.backup(copy)
        if copy.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise BackupRefused(str(source), "its pages do not add up")
        schema = copy.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        named = copy.execute("SELECT DISTINCT blob FROM bases WHERE blob IS NOT NULL AND state = 'ready' ORDER BY blob")
        return str(schema), [row[0] for row in named]


def _copy_blob(blobs: Blobs, name: str, to: Path) -> bool:
    try:
        _write(to / f"{name}{SUFFIX}", blobs.read(name))
    except Unreadable:
        return False
    return True


def _head(database: Path, now: datetime) -> Checkpoint | None:
    with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as reader:
        row = reader.execute("SELECT seq, hash FROM audit_head").fetchone()
    return None if row is None else Checkpoint(row[0], row[1], now)


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as problem:
        known = translate(problem, path)
        if known is None:
            raise BackupRefused(str(path), type(problem).__name__) from problem
        raise known from problem
