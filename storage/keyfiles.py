"""Files that hold secrets: made once, complete or not at all, and refused when somebody else could reach them.

A directory that Kubernetes mounts from a Secret is read by the rules of storage/mounted.py, and never written.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from storage.errors import Unreadable
from storage.key_errors import KeyFilePermissions, KeyRingMissing
from storage.mounted import is_mounted, list_mounted, open_mounted, refuse_writing

TEMPORARY = ".new"
KEY_BYTES = 32


def open_directory(path: Path) -> int:
    """A descriptor of `path`, which must be a real directory, ours, mode 0700. The caller closes it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KeyRingMissing(str(path.parent), path.name) from None
    except OSError as problem:
        raise KeyFilePermissions(str(path), "is a symbolic link or not a directory") from problem
    return _checked(handle, path)


def make_directory(path: Path) -> None:
    """Make `path` with mode 0700, unless it exists."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)


def list_directory(path: Path) -> list[str]:
    """The names in `path`, which must be a real directory, ours, mode 0700, or a mounted Secret."""
    if is_mounted(path):
        return list_mounted(path)
    handle = open_directory(path)
    try:
        return sorted(os.listdir(handle))
    finally:
        os.close(handle)


def write_secret(path: Path, secret: bytes) -> None:
    """Make `path` with mode 0600 and this content, durably. An existing file is never replaced (FileExistsError).

    Raises KeyRingReadOnly in a mounted Secret.
    """
    refuse_writing(path.parent)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path, follow_symlinks=False)  # unlike rename, it refuses an existing name
    finally:
        temporary.unlink()
    sync_directory(path.parent)


def read_secret(path: Path) -> bytes:
    """The content of `path`, after checking on the open descriptor that it is a regular file, ours, mode 0600.

    In a mounted Secret it may be a link within the directory, of root, mode 0440.
    """
    if is_mounted(path.parent):
        with os.fdopen(open_mounted(path), "rb") as file:
            return file.read(4096)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyRingMissing(str(path.parent), path.name) from None
    except OSError as problem:
        raise KeyFilePermissions(str(path), "is a symbolic link or can not be opened") from problem
    with os.fdopen(_checked(handle, path), "rb") as file:
        return file.read(4096)


def read_key(path: Path) -> bytes:
    """The 32 bytes of a key file, permissions checked. Raises Unreadable when it holds anything else."""
    secret = read_secret(path)
    if len(secret) != KEY_BYTES:
        raise Unreadable(f"key file {path}")
    return secret


def destroy_secret(path: Path) -> None:
    """Overwrite and remove `path`. On copy-on-write or flash storage only the removal is certain.

    Raises KeyRingReadOnly in a mounted Secret.
    """
    refuse_writing(path.parent)
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "wb") as file:
        file.write(bytes(os.fstat(file.fileno()).st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names created or removed in `path` survive a power loss."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checked(handle: int, path: Path) -> int:
    facts = os.fstat(handle)
    kind = stat.S_ISDIR(facts.st_mode) or stat.S_ISREG(facts.st_mode)
    problems = (
        (not kind, "is not a regular file"),
        (facts.st_uid != os.geteuid(), f"belongs to user {facts.st_uid}, not {os.geteuid()}"),
        (bool(facts.st_mode & 0o077), f"has mode {stat.S_IMODE(facts.st_mode):04o}"),
    )
    for wrong, problem in problems:
        if wrong:
            os.close(handle)
            raise KeyFilePermissions(str(path), problem)
    return handle
