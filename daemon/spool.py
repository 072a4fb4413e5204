"""What a Trainer keeps of a population while it trains on it: shards and a checkpoint, sealed, and its progress.

    FOLDER/basis-5/shard-0        number of a transport key, 4 bytes; sealed under it, bound to Basis, place and name
    FOLDER/basis-5/checkpoint     the same, bound to the population and the choices that it belongs to
    FOLDER/basis-5/progress       numbers, readable

It outlives the process, so that a Trainer that was killed goes on where it stood. Whatever does not open, because it
is damaged, under a key that is gone or of another population, is as good as absent: its shards are sent again. What
was sealed before a rotation still opens until a roll; but a daemon that asks anew after a rotation gives the shards
other names, sends them all, and the training begins anew.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from daemon.messages import BasisProgress, decode_progress, encode_progress
from daemon.shards import Shard, decode_shard, encode_shard
from storage.sealing import Unreadable, seal_message, unseal_message
from storage.transport_keys import Keys, numbered

MAGIC = b"PLORASP1"
PROGRESS = "progress"
NUMBER_BYTES = 4
_NAME = re.compile(r"[A-Za-z0-9]{1,32}")


class Spool:
    """A folder with one folder for each Basis, or, without a folder, the same in memory."""

    def __init__(self, folder: Path | None = None, keys: Keys | bytes | None = None) -> None:
        self._folder, self._keys = folder, numbered(keys or secrets.token_bytes(32))
        self._memory: dict[tuple[str, str], bytes] = {}

    @property
    def folder(self) -> Path | None:
        return self._folder

    def keep(self, basis: str, index: int, name: str, shard: Shard) -> None:
        """Seal a shard."""
        self.write(basis, f"shard-{index}", name, encode_shard(shard))

    def shard(self, basis: str, index: int, name: str) -> Shard | None:
        """The shard of this name, if it is held."""
        document = self.read(basis, f"shard-{index}", name)
        with suppress(ValueError):
            return None if document is None else decode_shard(document)
        return None

    def write(self, basis: str, part: str, bound_to: str, plain: bytes) -> None:
        """Seal `plain` as this part; only who names the same `bound_to` can read it."""
        number, key = self._keys.newest()
        sealed = seal_message(key, _context(basis, part, bound_to), plain)
        self._put(basis, part, number.to_bytes(NUMBER_BYTES, "big") + sealed)

    def read(self, basis: str, part: str, bound_to: str) -> bytes | None:
        """The reverse; None where there is nothing that opens."""
        sealed = self._get(basis, part)
        with suppress(Unreadable):
            if sealed is not None:
                key = self._keys.of(int.from_bytes(sealed[:NUMBER_BYTES], "big"))
                return unseal_message(key, _context(basis, part, bound_to), sealed[NUMBER_BYTES:])
        return None

    def tell(self, basis: str, progress: BasisProgress) -> None:
        """Let others know how far training has come."""
        self._put(basis, PROGRESS, encode_progress(progress))

    def progress(self, basis: str) -> BasisProgress | None:
        """What was told last."""
        told = self._get(basis, PROGRESS)
        with suppress(ValueError):
            return None if told is None else decode_progress(told)
        return None

    def forget(self, basis: str) -> None:
        """Remove all that belongs to a Basis."""
        if self._folder is not None:
            shutil.rmtree(self._place(self._folder, basis), ignore_errors=True)
        for key in [key for key in self._memory if key[0] == basis]:
            del self._memory[key]

    def forget_others(self, basis: str) -> None:
        """Remove what is left of any other Basis: only one is trained at a time."""
        for key in [key for key in self._memory if key[0] != basis]:
            del self._memory[key]
        if self._folder is not None and self._folder.is_dir():
            own = self._place(self._folder, basis).name
            for other in self._folder.glob("basis-*"):
                if other.name != own:
                    shutil.rmtree(other, ignore_errors=True)

    def _get(self, basis: str, part: str) -> bytes | None:
        if self._folder is None:
            return self._memory.get((basis, part))
        try:
            return (self._place(self._folder, basis) / part).read_bytes()
        except FileNotFoundError:
            return None

    def _put(self, basis: str, part: str, content: bytes) -> None:
        if self._folder is None:
            self._memory[basis, part] = content
            return
        place = self._place(self._folder, basis)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = place / f".{part}.{os.getpid()}"
        temporary.write_bytes(content)
        temporary.replace(place / part)

    @staticmethod
    def _place(folder: Path, basis: str) -> Path:
        if not _NAME.fullmatch(basis):
            raise Unreadable("the name of a basis")
        return folder / f"basis-{basis}"


def _context(basis: str, part: str, bound_to: str) -> bytes:
    return MAGIC + hashlib.sha256(json.dumps([basis, part, bound_to]).encode()).digest()
