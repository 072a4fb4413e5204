"""The keys that the daemon and its trainers share: numbered files in one directory.

    transport.key                number 1
    transport-0000000002.key     number 2, and so on
    transport-0000000002.roll    a time as text: from then on numbers below 2 are removed

The daemon seals under the newest number; a trainer opens under any that it has. The directory is looked at for every
message, so that a key counts as soon as its file is there and no longer than it is. Keys are read once.
"""

import os
import re
import secrets
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from storage.errors import Unreadable
from storage.key_errors import KeyRingMissing
from storage.keyfiles import KEY_BYTES, destroy_secret, read_key, read_secret, sync_directory, write_secret

FIRST = 1
FIRST_NAME = "transport.key"
NAME = re.compile(r"transport-(\d{10})\.key")
ROLL = re.compile(r"transport-(\d{10})\.roll")
KEPT = timedelta(hours=1)
"""How long a key is kept after a roll: twice what a cohort may take."""


class TransportKeyUnknown(Unreadable):
    """A message names a key that is not here, or no longer. `newest` is the newest number that is; 0 for none."""

    def __init__(self, number: int, newest: int) -> None:
        super().__init__(f"what is sealed under transport key {number}")
        self.args = (number, newest)
        self.number, self.newest = number, newest


class Keys(Protocol):
    """Numbered transport keys."""

    def newest(self) -> tuple[int, bytes]:
        """What to seal under."""
        ...

    def of(self, number: int) -> bytes:
        """The key of a number. Raises TransportKeyUnknown."""
        ...


class OneKey:
    """One key that no file holds: number 1."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def newest(self) -> tuple[int, bytes]:
        return FIRST, self._key

    def of(self, number: int) -> bytes:
        if number != FIRST:
            raise TransportKeyUnknown(number, FIRST)
        return self._key


class TransportKeys:
    """The keys beside `path`, which is the file of number 1 whether it still exists or not. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._first = FIRST_NAME if NAME.fullmatch(path.name) else path.name
        self._held: dict[int, bytes] = {}

    def numbers(self) -> tuple[int, ...]:
        """Those that exist, oldest first."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return ()
        later = [int(match[1]) for name in names if (match := NAME.fullmatch(name))]
        return tuple(sorted({FIRST, *later} if self._first in names else later))

    def newest(self) -> tuple[int, bytes]:
        """Raises KeyRingMissing when there is none, KeyFilePermissions, or Unreadable for a file that is no key."""
        numbers = self.numbers()
        if not numbers:
            raise KeyRingMissing(str(self._folder), self._first)
        return numbers[-1], self._key(numbers[-1])

    def of(self, number: int) -> bytes:
        numbers = self.numbers()
        for each in [each for each in self._held.copy() if each not in numbers]:
            self._held.pop(each, None)
        try:
            if number in numbers:
                return self._key(number)
        except KeyRingMissing:  # removed since it was listed
            pass
        raise TransportKeyUnknown(number, max(numbers, default=0))

    def rotate(self) -> int:
        """Make a new key, durable before it is used; the others stay."""
        number = max(self.numbers(), default=FIRST - 1) + 1
        while True:
            try:
                write_secret(self._path(number), secrets.token_bytes(KEY_BYTES))
            except FileExistsError:  # another daemon was faster
                number += 1
            else:
                return number

    def roll(self, now: datetime) -> None:
        """Have all but the newest removed by the first `retire` after KEPT."""
        newest, _ = self.newest()
        with suppress(FileExistsError):  # another daemon was faster
            write_secret(self._folder / f"transport-{newest:010d}.roll", (now + KEPT).isoformat().encode())

    def retire(self, now: datetime) -> tuple[int, ...]:
        """Remove the keys whose time has come; which ones."""
        gone: list[int] = []
        for name in sorted(os.listdir(self._folder)):
            match = ROLL.fullmatch(name)
            if match is not None and self._is_due(name, now):
                old = [number for number in self.numbers() if number < int(match[1])]
                for number in old:
                    with suppress(FileNotFoundError):  # another daemon was faster
                        destroy_secret(self._path(number))
                gone += old
                (self._folder / name).unlink(missing_ok=True)
                sync_directory(self._folder)
        return tuple(gone)

    def _is_due(self, name: str, now: datetime) -> bool:
        try:
            return datetime.fromisoformat(read_secret(self._folder / name).decode()) <= now
        except KeyRingMissing:  # another daemon was faster
            return False

    def _key(self, number: int) -> bytes:
        key = self._held.get(number) or read_key(self._path(number))
        self._held[number] = key
        return key

    def _path(self, number: int) -> Path:
        return self._folder / (self._first if number == FIRST else f"transport-{number:010d}.key")


def numbered(keys: Keys | bytes) -> Keys:
    """`keys`; 32 bytes alone are number 1."""
    return OneKey(keys) if isinstance(keys, bytes) else keys
