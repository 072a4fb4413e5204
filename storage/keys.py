"""The key ring: a directory of key files that lives apart from the data, and from its backups.

    kek-0000000001.key   32 random bytes: one epoch of the key that wraps data keys; the highest number is primary
    audit.key            authenticates the newest entry of the audit chain
    transport.key        shared with the trainers
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
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import BadRecord, KeyRingExists, KeyRingMissing, KeysBesideData, Unreadable
from storage.keyfiles import TEMPORARY, destroy_secret, list_directory, make_directory, read_secret, write_secret

KEY_BYTES = 32
WRAPPED_BYTES = 65
DESTROYED = bytes(WRAPPED_BYTES)
FORMAT = 1
EPOCH_FILE = re.compile(r"kek-(\d{10})\.key")
TOKEN_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a data key belongs; it unwraps nowhere else. Ids are 16 bytes."""

    tenant: bytes
    subject: bytes
    key_id: bytes
    generation: int


class KeyRing:
    """Open key files. Make one with `create` or `open`."""

    def __init__(self, directory: Path, epochs: dict[int, bytes], audit: bytes, transport: bytes) -> None:
        self.directory = directory
        self._epochs = epochs
        self._audit = audit
        self._transport = transport
        self._changing = threading.Lock()

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Make a new ring, or finish one that a crash left without its first epoch, which is written last.

        Raises KeyRingExists when the directory already holds an epoch.
        """
        make_directory(directory)
        names = list_directory(directory)
        if any(EPOCH_FILE.fullmatch(name) for name in names):
            raise KeyRingExists(str(directory))
        for name in ("audit.key", "transport.key", _epoch_name(1)):
            if name not in names:
                write_secret(directory / name, secrets.token_bytes(KEY_BYTES))
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Raises KeyRingMissing, KeyFilePermissions, or Unreadable when a file is not a key."""
        names = list_directory(directory)
        for name in names:
            if name.endswith(TEMPORARY):  # left by a crash before it became a key
                (directory / name).unlink(missing_ok=True)
        found = [(int(match[1]), name) for name in names if (match := EPOCH_FILE.fullmatch(name))]
        if not found:
            raise KeyRingMissing(str(directory), _epoch_name(1))
        epochs = {epoch: read_key(directory / name) for epoch, name in found}
        return cls(directory, epochs, read_key(directory / "audit.key"), read_key(directory / "transport.key"))

    def __repr__(self) -> str:
        return f"KeyRing({str(self.directory)!r}, epochs={self.epochs()})"

    def refuse_beside(self, data: Path) -> None:
        """Raise KeysBesideData when one of the two directories contains the other."""
        keys, other = self.directory.resolve(), data.resolve()
        if keys.is_relative_to(other) or other.is_relative_to(keys):
            raise KeysBesideData(str(keys), str(other))

    def epochs(self) -> tuple[int, ...]:
        return tuple(sorted(self._epochs))

    def primary(self) -> int:
        """The epoch that wraps new data keys."""
        return max(self._epochs)

    def new_epoch(self) -> int:
        """Make a new primary epoch, durable before it is used."""
        with self._changing:
            epoch, secret = self.primary() + 1, secrets.token_bytes(KEY_BYTES)
            write_secret(self.directory / _epoch_name(epoch), secret)
            self._epochs = {**self._epochs, epoch: secret}
        return epoch

    def destroy_epoch(self, epoch: int) -> None:
        """Make everything wrapped under `epoch` unreadable for ever, wherever a copy of it is."""
        with self._changing:
            if epoch == self.primary():
                raise BadRecord("epoch", "older than the primary one")
            destroy_secret(self.directory / _epoch_name(epoch))
            self._epochs = {known: secret for known, secret in self._epochs.items() if known != epoch}

    def wrap(self, key: bytes, place: KeyPlace) -> bytes:
        """`key` in 65 bytes that unwrap only in `place`."""
        if len(key) != KEY_BYTES:
            raise BadRecord("key", f"{KEY_BYTES} bytes")
        epochs = self._epochs
        epoch = max(epochs)
        nonce = secrets.token_bytes(12)
        body = AESGCM(epochs[epoch]).encrypt(nonce, key, _associated(place, epoch))
        return struct.pack(">BI", FORMAT, epoch) + nonce + body

    def unwrap(self, wrapped: bytes, place: KeyPlace) -> bytes:
        """Raise Unreadable unless `wrapped` was made for `place` under an epoch that still exists."""
        kek = self._epochs.get(wrapped_epoch(wrapped))
        if len(wrapped) != WRAPPED_BYTES or wrapped[0] != FORMAT or kek is None:
            raise Unreadable("the data key")
        try:
            return AESGCM(kek).decrypt(wrapped[5:17], wrapped[17:], _associated(place, wrapped_epoch(wrapped)))
        except InvalidTag:
            raise Unreadable("the data key") from None

    def audit_key(self) -> bytes:
        return self._audit

    def transport_key(self) -> bytes:
        """32 bytes that the daemon and its trainers hold."""
        return self._transport

    @property
    def transport_path(self) -> Path:
        """For a trainer on this machine: it reads the file with `read_key`."""
        return self.directory / "transport.key"

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


def read_key(path: Path) -> bytes:
    """The 32 bytes of a key file, permissions checked. Raises Unreadable when it holds anything else."""
    secret = read_secret(path)
    if len(secret) != KEY_BYTES:
        raise Unreadable(f"key file {path}")
    return secret


def wrapped_epoch(wrapped: bytes) -> int:
    """The epoch that a wrapped key names; 0 when it was destroyed."""
    return int.from_bytes(wrapped[1:5], "big")


def _epoch_name(epoch: int) -> str:
    return f"kek-{epoch:010d}.key"


def _associated(place: KeyPlace, epoch: int) -> bytes:
    ids = (place.tenant, place.subject, place.key_id)
    if any(len(each) != 16 for each in ids):
        raise BadRecord("place", "ids of 16 bytes")
    return b"plora/dek/1" + b"".join(ids) + struct.pack(">II", place.generation, epoch)
