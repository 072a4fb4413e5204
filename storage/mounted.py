"""A key directory that Kubernetes mounts from a Secret: read-only, its files are links into `..data`, others own them.

    /keys/kek-0000000001.key -> ..data/kek-0000000001.key
    /keys/..data             -> ..2031_05_06_07_08_09.1234567890   swapped in one step when the Secret changes

Whoever can place a file there could place a key, so each part belongs to root or to us, and nobody else may write it:
where a mode allows that (Kubernetes gives the directory 1777), the mount itself is read-only. Group may read.
"""

import errno
import os
import stat
from pathlib import Path

from storage.key_errors import KeyFilePermissions, KeyRingMissing, KeyRingReadOnly

CURRENT = "..data"
WRITES_OF_OTHERS = 0o022
NOT_FOR_KEYS = 0o027


def is_mounted(directory: Path) -> bool:
    """Whether `directory` is laid out as a mounted Secret."""
    return (directory / CURRENT).is_symlink()


def refuse_writing(directory: Path) -> None:
    """Raise KeyRingReadOnly where `directory` is a mounted Secret."""
    if is_mounted(directory):
        raise KeyRingReadOnly(str(directory))


def open_mounted(path: Path) -> int:
    """A descriptor of a key file that was checked to lie in its own directory. The caller closes it."""
    _check_directory(path.parent)
    try:
        target = path.resolve(strict=True)
        handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as problem:
        if problem.errno == errno.ENOENT:
            raise KeyRingMissing(str(path.parent), path.name) from None
        raise KeyFilePermissions(str(path), "can not be opened") from problem
    if not target.is_relative_to(path.parent.resolve()):
        os.close(handle)
        raise KeyFilePermissions(str(path), "leads out of its directory")
    facts = os.fstat(handle)
    problems = (
        (not stat.S_ISREG(facts.st_mode), "is not a regular file"),
        (facts.st_uid not in {0, os.geteuid()}, f"belongs to user {facts.st_uid}, not to root"),
        (bool(facts.st_mode & NOT_FOR_KEYS), f"has mode {stat.S_IMODE(facts.st_mode):04o}"),
    )
    for wrong, flaw in problems:
        if wrong:
            os.close(handle)
            raise KeyFilePermissions(str(path), flaw)
    return handle


def list_mounted(directory: Path) -> list[str]:
    """The names of the key files in `directory`."""
    _check_directory(directory)
    return sorted(name for name in os.listdir(directory) if not name.startswith(".."))


def _check_directory(directory: Path) -> None:
    facts = directory.stat()
    if facts.st_uid not in {0, os.geteuid()}:
        raise KeyFilePermissions(str(directory), f"belongs to user {facts.st_uid}, not to root")
    if facts.st_mode & WRITES_OF_OTHERS and not os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise KeyFilePermissions(str(directory), "can be written by others")
