"""What a disk may hold after the power went: a prefix of the recorded operations, without what was not yet synced.

A file's bytes are durable when the file was synced after they were written; of the others any sectors may have arrived.
A name is durable when its directory was synced after it changed; of the other changes of a directory the first few have
arrived, in their order.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HEAD = struct.Struct("<cQQIHH")
SECTOR, PAGE = 512, 4096
DERIVED = ("-shm", ".lock")
Written = tuple[int, bytes]
Named = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Operation:
    kind: str
    inode: int
    at: int
    path: str
    other: str
    data: bytes = field(repr=False)


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Written | int] = field(default_factory=list)  # bytes at an offset, or a new length


def recorded(journal: Path) -> list[Operation]:
    """The operations in their order, without those on files that are made anew at every start."""
    told, data, at = [], journal.read_bytes(), 0
    while at + HEAD.size <= len(data):
        kind, inode, place, size, first, second = HEAD.unpack_from(data, at)
        at += HEAD.size
        path, other = data[at : at + first].decode(), data[at + first : at + first + second].decode()
        at += first + second
        told.append(Operation(kind.decode(), inode, place, path, other, data[at : at + size]))
        at += size
    return [each for each in told if not each.path.removesuffix(" (deleted)").endswith(DERIVED)]


class Disk:
    """A disk that operations are done to. It begins with what is below `root`, all of it durable."""

    def __init__(self, root: Path) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._changes: dict[str, list[Named]] = {}  # of each directory, since it was synced
        for path in root.rglob("*"):
            if path.is_file() and not path.name.endswith(DERIVED):
                content = path.read_bytes()
                inode = path.stat().st_ino
                self._files[inode] = _File(bytearray(content))
                self._names[str(path)] = inode
        self._durable = dict(self._names)

    def do(self, operation: Operation) -> None:
        """One operation."""
        act = {"c": self._create, "w": self._write, "t": self._cut, "s": self._sync, "d": self._sync_directory}
        act |= {"x": self._fail, "m": self._move, "l": self._link, "u": self._unlink}
        if operation.kind in act:
            act[operation.kind](operation)

    def lost(self, draw: random.Random) -> dict[str, bytes]:
        """Files by name, as the power going now may leave them."""
        names = dict(self._durable)
        for changes in self._changes.values():
            for change in changes[: draw.randint(0, len(changes))]:
                _apply(names, change)
        sector, arrived = draw.choice((SECTOR, PAGE)), draw.choice((0.0, 0.02, 0.5, 0.95))
        return {name: self._content(self._files[inode], draw, sector, arrived) for name, inode in names.items()}

    def _content(self, file: _File, draw: random.Random, sector: int, arrived: float) -> bytes:
        content = bytearray(file.durable)
        for change in file.pending:
            if isinstance(change, int):
                if draw.random() < arrived:
                    _resize(content, change)
                continue
            at, data = change
            for start in range(0, len(data), sector):
                if draw.random() < arrived:
                    _overwrite(content, at + start, data[start : start + sector])
        return bytes(content)

    def _create(self, operation: Operation) -> None:
        self._files[operation.inode] = _File()
        self._change(operation.path, operation.inode)

    def _write(self, operation: Operation) -> None:
        file = self._files.get(operation.inode)
        if file is None:
            return
        file.pending.append((operation.at, operation.data))

    def _cut(self, operation: Operation) -> None:
        if (file := self._files.get(operation.inode)) is not None:
            file.pending.append(operation.at)

    def _sync(self, operation: Operation) -> None:
        if (file := self._files.get(operation.inode)) is not None:
            for change in file.pending:
                if isinstance(change, int):
                    _resize(file.durable, change)
                else:
                    _overwrite(file.durable, *change)
            file.pending = []

    def _fail(self, operation: Operation) -> None:
        """The kernel gives up what it could not write: a later sync that succeeds does not bring it."""
        if (file := self._files.get(operation.inode)) is not None:
            file.pending = []

    def _sync_directory(self, operation: Operation) -> None:
        for change in self._changes.pop(operation.path, []):
            _apply(self._durable, change)

    def _move(self, operation: Operation) -> None:
        inode = self._names.get(operation.path)
        if inode is None:
            return
        del self._names[operation.path]
        self._names[operation.other] = inode
        folder = str(Path(operation.other).parent)
        self._changes.setdefault(folder, []).append((operation.path, operation.other, inode))

    def _link(self, operation: Operation) -> None:
        if (inode := self._names.get(operation.path)) is not None:
            self._change(operation.other, inode)

    def _unlink(self, operation: Operation) -> None:
        if self._names.pop(operation.path, None) is not None:
            folder = str(Path(operation.path).parent)
            self._changes.setdefault(folder, []).append((operation.path, "", 0))

    def _change(self, path: str, inode: int) -> None:
        self._names[path] = inode
        self._changes.setdefault(str(Path(path).parent), []).append(("", path, inode))


def crashes(disk: Disk, operations: list[Operation], count: int, seed: int) -> Iterator[tuple[int, dict[str, bytes]]]:
    """`count` times how far it had come, and what the disk then held. `disk` is as before the first operation."""
    draw, done = random.Random(seed), 0
    for point in sorted(draw.randrange(1, len(operations) + 1) for _ in range(count)):
        while done < point:
            disk.do(operations[done])
            done += 1
        yield done, disk.lost(draw)


def _apply(names: dict[str, int], change: Named) -> None:
    before, after, inode = change
    if before:
        names.pop(before, None)
    if after:
        names[after] = inode


def _resize(content: bytearray, size: int) -> None:
    if len(content) > size:
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _overwrite(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        _resize(content, at)
    content[at : at + len(data)] = data
