"""Key epochs in HashiCorp Vault: epoch e is version e of one transit key.

The bytes of an epoch are transit's HMAC-SHA256 of a fixed label under that version: Vault keeps the key itself, and
nothing of it is stored anywhere else. To destroy an epoch, both minimum versions are raised above it and the versions
below are trimmed, which deletes them for good. Vault must be reached by HTTPS, or on this machine.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import hvac
import requests
from hvac import exceptions

from storage.key_errors import KeysAway, KeysDenied
from storage.providers import FIRST, LABEL
from storage.providers.choices import VaultChoices

TIMEOUT_S = 3.0
AWAY = (
    exceptions.VaultDown,
    exceptions.InternalServerError,
    exceptions.BadGateway,
    exceptions.RateLimitExceeded,
    requests.RequestException,
)
INPUT = base64.b64encode(LABEL).decode()


class VaultKeys:
    """The epochs in one transit key. Thread-safe as long as one thread at a time calls, as a KeyRing does."""

    name = "vault"
    delay = timedelta(0)

    def __init__(self, choices: VaultChoices) -> None:
        self._choices = choices
        self._client = hvac.Client(url=choices.addr, timeout=TIMEOUT_S)
        self._read_at: tuple[int, int] | None = None
        self._known: dict[int, bytes] = {}

    def epochs(self) -> dict[int, bytes]:
        with self._asking() as transit:
            facts = self._facts(transit)
            if facts is None:
                return {}
            lowest = max(facts[name] for name in ("min_decryption_version", "min_encryption_version"))
            first = max(FIRST, lowest, facts.get("min_available_version", 0))
            versions = range(first, facts["latest_version"] + 1)
            self._known = {each: self._known.get(each) or self._derive(transit, each) for each in versions}
        return dict(self._known)

    def new_epoch(self) -> int:
        where = {"name": self._choices.key, "mount_point": self._choices.mount}
        with self._asking() as transit:
            if self._facts(transit) is None:
                transit.create_key(**where, key_type="aes256-gcm96", exportable=False, allow_plaintext_backup=False)
            else:
                transit.rotate_key(**where)
            facts = self._facts(transit)
        if facts is None:
            raise KeysDenied(self.name, "the transit key vanished")
        return facts["latest_version"]

    def destroy_epoch(self, epoch: int) -> timedelta:
        where = {"name": self._choices.key, "mount_point": self._choices.mount}
        with self._asking() as transit:
            facts = self._facts(transit) or {}
            if facts.get("min_available_version", 0) <= epoch:
                above = max(epoch + 1, facts.get("min_decryption_version", 0), facts.get("min_encryption_version", 0))
                transit.update_key_configuration(**where, min_encryption_version=above)  # never below the other
                transit.update_key_configuration(**where, min_decryption_version=above)
                transit.trim_key(**where, min_version=epoch + 1)
        self._known.pop(epoch, None)
        return self.delay

    def _facts(self, transit: "hvac.api.secrets_engines.Transit") -> dict[str, int] | None:
        try:
            answer = transit.read_key(name=self._choices.key, mount_point=self._choices.mount)
        except exceptions.InvalidPath:
            return None
        return {name: value for name, value in answer["data"].items() if isinstance(value, int)}

    def _derive(self, transit: "hvac.api.secrets_engines.Transit", version: int) -> bytes:
        answer = transit.generate_hmac(
            name=self._choices.key,
            hash_input=INPUT,
            key_version=version,
            algorithm="sha2-256",
            mount_point=self._choices.mount,
        )
        said, _, secret = answer["data"]["hmac"].rpartition(":")
        derived = base64.b64decode(secret)
        if said != f"vault:v{version}" or len(derived) != 32:
            raise KeysDenied(self.name, "it answered under another version")
        return derived

    @contextmanager
    def _asking(self) -> Iterator["hvac.api.secrets_engines.Transit"]:
        try:
            self._read_token()
            yield self._client.secrets.transit
        except AWAY as problem:
            raise KeysAway(self.name, type(problem).__name__) from None
        except exceptions.VaultError as problem:  # its text may quote the address and what was sent
            raise KeysDenied(self.name, type(problem).__name__) from None

    def _read_token(self) -> None:
        path = self._choices.token_file
        try:
            facts = path.stat()
            if self._read_at != (facts.st_mtime_ns, facts.st_ino):
                self._client.token = path.read_text(encoding="ascii").strip()
                self._read_at = (facts.st_mtime_ns, facts.st_ino)
        except (OSError, ValueError):
            raise KeysDenied(self.name, "its token file can not be read") from None
