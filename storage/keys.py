"""The key ring: key epochs from a provider, and a directory of key files apart from the data and from its backups.

    kek-0000000001.key   32 random bytes: one epoch of the key that wraps data keys, where files are the provider
    audit.key            authenticates the newest entry of the audit chain
    transport.key        shared with the trainers: number 1; later ones are transport-0000000002.key and so on
    NAME.token           a bearer token, as text

A wrapped data key is 65 bytes:

    0  1  0x01            1  4  epoch, big endian            5  12  nonce, random
    17 32 AES-256-GCM(KEK[epoch], nonce, data key,
              "plora/dek/1" || tenant 16 || subject 16 || key id 16 || generation 4 || epoch 4)           49 16 tag

Reading picks the epoch that the record names, never by trial. Random nonces allow 2^31 wraps per epoch.
"""

import base64
import re
import secrets
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import BadRecord, StorageError, Unreadable
from storage.key_errors import KeyFilePermissions, KeyRingExists, KeyRingMissing, KeysAway, KeysBesideData, KeysDenied
from storage.keyfiles import KEY_BYTES, TEMPORARY, list_directory, make_directory, read_key, read_secret, write_secret
from storage.mounted import is_mounted
from storage.providers import Provider
from storage.providers.files import FileKeys
from storage.signing import Signer
from storage.transport_keys import FIRST_NAME, TransportKeys

WRAPPED_BYTES = 65
DESTROYED = bytes(WRAPPED_BYTES)
REFRESH_S = 60.0
COAST_S = 600.0
FORMAT = 1
TOKEN_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a data key belongs; it unwraps nowhere else. Ids are 16 bytes."""

    tenant: bytes
    subject: bytes
    key_id: bytes
    generation: int


class KeyRing:
    """Open keys. Make one with `create` or `open`. Thread-safe.

    What the provider said is trusted for COAST_S after it ceased to answer; it is asked every REFRESH_S.
    """

    def __init__(self, directory: Path, provider: Provider, audit: bytes, clock: Callable[[], float]) -> None:
        self.directory = directory
        self.provider, self.delay = provider.name, provider.delay
        self.transport = TransportKeys(directory / FIRST_NAME)
        self.failures = 0
        self._provider = provider
        self._audit = audit
        self._clock = clock
        self._changing = threading.Lock()
        self._epochs = provider.epochs()
        self._missing: frozenset[int] = frozenset()
        self._problem: StorageError | None = None
        self._seen = self._asked = clock()

    @classmethod
    def create(cls, directory: Path, provider: Provider | None = None, clock: Callable[[], float] = monotonic) -> Self:
        """Make a new ring, or finish one that a crash left without its first epoch, which is made last.

        Raises KeyRingExists when there already is an epoch.
        """
        make_directory(directory)
        names = list_directory(directory)
        provider = provider or FileKeys(directory)
        if provider.epochs():
            raise KeyRingExists(str(directory))
        if "audit.key" not in names:
            write_secret(directory / "audit.key", secrets.token_bytes(KEY_BYTES))
        transport = TransportKeys(directory / FIRST_NAME)
        if not transport.numbers():
            transport.rotate()
        provider.new_epoch()
        return cls.open(directory, provider, clock)

    @classmethod
    def open(cls, directory: Path, provider: Provider | None = None, clock: Callable[[], float] = monotonic) -> Self:
        """Raises KeyRingMissing, KeyFilePermissions, Unreadable when a file is not a key, KeysAway or KeysDenied."""
        for name in list_directory(directory):
            if name.endswith(TEMPORARY):  # left by a crash before it became a key
                (directory / name).unlink(missing_ok=True)
        provider = provider or FileKeys(directory)
        ring = cls(directory, provider, read_key(directory / "audit.key"), clock)
        if not ring.epochs():
            raise KeyRingMissing(str(directory), f"key epoch in {provider.name}: kek-0000000001.key")
        ring.transport_key()
        return ring

    def __repr__(self) -> str:
        return f"KeyRing({str(self.directory)!r}, provider={self.provider!r}, epochs={self.epochs()})"

    @property
    def read_only(self) -> bool:
        """Whether the key files are a mounted Secret, which only its operator changes."""
        return is_mounted(self.directory)

    def refuse_beside(self, data: Path) -> None:
        """Raise KeysBesideData when one of the two directories contains the other."""
        keys, other = self.directory.resolve(), data.resolve()
        if keys.is_relative_to(other) or other.is_relative_to(keys):
            raise KeysBesideData(str(keys), str(other))

    def epochs(self) -> tuple[int, ...]:
        return tuple(sorted(self._epochs))

    def primary(self) -> int:
        """The newest epoch. The database says which one wraps new data keys: this, but for the moment of a change."""
        return max(self._epochs)

    def problem(self) -> StorageError | None:
        """Why the provider could not be asked the last time."""
        return self._problem

    def check(self) -> None:
        """Ask the provider when it is time. Raise KeysAway or KeysDenied once it has been away for too long."""
        if self._clock() - self._asked >= REFRESH_S and self._changing.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._changing.release()
        problem = self._problem
        if problem is not None and self._clock() - self._seen > COAST_S:
            raise problem

    def new_epoch(self) -> int:
        """Make a new epoch, durable before it is used."""
        with self._changing:
            epoch = self._provider.new_epoch()
            self._epochs = self._provider.epochs()
        return epoch

    def look_again(self) -> int:
        """Ask the provider now; the newest epoch."""
        with self._changing:
            self._refresh()
        return self.primary()

    def destroy_epoch(self, epoch: int) -> timedelta:
        """Make all that is wrapped under `epoch` unreadable, wherever a copy is; for ever after what is returned."""
        with self._changing:
            if epoch == self.primary():
                raise BadRecord("epoch", "older than the primary one")
            final = self._provider.destroy_epoch(epoch)
            self._epochs = {known: secret for known, secret in self._epochs.items() if known != epoch}
        return final

    def wrap(self, key: bytes, place: KeyPlace, epoch: int | None = None) -> bytes:
        """`key` in 65 bytes that unwrap only in `place`; under the newest epoch unless told another."""
        if len(key) != KEY_BYTES:
            raise BadRecord("key", f"{KEY_BYTES} bytes")
        epoch = self.primary() if epoch is None else epoch
        kek = self._kek(epoch)
        if kek is None:
            raise Unreadable(f"key epoch {epoch}")
        nonce = secrets.token_bytes(12)
        body = AESGCM(kek).encrypt(nonce, key, _associated(place, epoch))
        return struct.pack(">BI", FORMAT, epoch) + nonce + body

    def unwrap(self, wrapped: bytes, place: KeyPlace) -> bytes:
        """Raise Unreadable unless `wrapped` was made for `place` under an epoch that still exists."""
        if len(wrapped) != WRAPPED_BYTES or wrapped[0] != FORMAT:
            raise Unreadable("the data key")
        kek = self._kek(wrapped_epoch(wrapped))
        if kek is None:
            raise Unreadable("the data key")
        try:
            return AESGCM(kek).decrypt(wrapped[5:17], wrapped[17:], _associated(place, wrapped_epoch(wrapped)))
        except InvalidTag:
            raise Unreadable("the data key") from None

    def _kek(self, epoch: int) -> bytes | None:
        """Of an epoch that is new to this process the provider is asked once."""
        self.check()
        if epoch in self._epochs or epoch in self._missing:
            return self._epochs.get(epoch)
        with self._changing:
            if epoch not in self._epochs and epoch not in self._missing:
                self._refresh()
                if self._problem is not None:
                    raise self._problem
                self._missing |= {epoch} - self._epochs.keys()
        return self._epochs.get(epoch)

    def _refresh(self) -> None:
        self._asked = self._clock()
        try:
            self._epochs = self._provider.epochs()
        except (KeysAway, KeysDenied, KeyRingMissing, KeyFilePermissions) as problem:
            self._problem = problem
            self.failures += 1
            return
        self._missing, self._problem, self._seen = frozenset(), None, self._asked

    def audit_key(self) -> bytes:
        return self._audit

    def signer(self) -> Signer:
        """What signs receipts and checkpoints. An older ring gets its signing key on the first call."""
        path = self.directory / "signing.key"
        with suppress(FileExistsError):
            if not path.exists():
                write_secret(path, secrets.token_bytes(KEY_BYTES))
        return Signer(read_key(path))

    def transport_key(self) -> bytes:
        """The newest 32 bytes that the daemon and its trainers hold."""
        return self.transport.newest()[1]

    @property
    def transport_path(self) -> Path:
        """For a trainer on this machine: where number 1 is or was, and the others beside it (`TransportKeys`)."""
        return self.directory / FIRST_NAME

    def ensure_token(self, name: str) -> str:
        """The bearer token in NAME.token, made on the first call."""
        if not TOKEN_NAME.fullmatch(name):
            raise BadRecord("token name", "lower case letters, digits and dashes")
        path = self.directory / f"{name}.token"
        try:
            return read_secret(path).decode("ascii").strip()
        except KeyRingMissing:
            random = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii").rstrip("=")
            write_secret(path, f"plr_{random}\n".encode("ascii"))
            return f"plr_{random}"


def wrapped_epoch(wrapped: bytes) -> int:
    """The epoch that a wrapped key names; 0 when it was destroyed."""
    return int.from_bytes(wrapped[1:5], "big")


def _associated(place: KeyPlace, epoch: int) -> bytes:
    ids = (place.tenant, place.subject, place.key_id)
    if any(len(each) != 16 for each in ids):
        raise BadRecord("place", "ids of 16 bytes")
    return b"plora/dek/1" + b"".join(ids) + struct.pack(">II", place.generation, epoch)
