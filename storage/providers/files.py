"""Key epochs in files: kek-0000000001.key holds the 32 random bytes of epoch 1."""

import re
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from storage.keyfiles import KEY_BYTES, destroy_secret, list_directory, read_key, write_secret
from storage.providers import FIRST

NAME = re.compile(r"kek-(\d{10})\.key")


class FileKeys:
    """The epochs in one directory, which several daemons may share."""

    name = "file"
    delay = timedelta(0)

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def epochs(self) -> dict[int, bytes]:
        return {epoch: read_key(self._directory / _name(epoch)) for epoch in self._numbers()}

    def new_epoch(self) -> int:
        epoch = max(self._numbers(), default=FIRST - 1) + 1
        while True:
            try:
                write_secret(self._directory / _name(epoch), secrets.token_bytes(KEY_BYTES))
            except FileExistsError:  # another daemon was faster
                epoch += 1
            else:
                return epoch

    def destroy_epoch(self, epoch: int) -> timedelta:
        """Of a mounted Secret: raises KeyRingReadOnly until the file is no longer in it."""
        if epoch in self._numbers():
            with suppress(FileNotFoundError):  # another daemon was faster
                destroy_secret(self._directory / _name(epoch))
        return self.delay

    def _numbers(self) -> list[int]:
        return [int(match[1]) for name in list_directory(self._directory) if (match := NAME.fullmatch(name))]


def _name(epoch: int) -> str:
    return f"kek-{epoch:010d}.key"
