"""The key ring that the settings ask for."""

from daemon.settings import Settings
from storage import KeyRing
from storage.providers import Provider
from storage.providers.files import FileKeys
from storage.providers.kms import KmsKeys
from storage.providers.vault import VaultKeys

TOKENS = ("operator", "host")
"""The callers whose tokens lie in the key ring."""


def provider_of(settings: Settings) -> Provider:
    """Where the key epochs are. Raises KeysDenied where the credentials can not be found."""
    if settings.keys_provider == "vault":
        return VaultKeys(settings.vault)
    return KmsKeys(settings.kms) if settings.keys_provider == "kms" else FileKeys(settings.keys_path)


def open_ring(settings: Settings) -> KeyRing:
    """Raises KeyRingMissing, KeyFilePermissions, KeysAway or KeysDenied."""
    return KeyRing.open(settings.keys_path, provider_of(settings))


def make_ring(settings: Settings) -> KeyRing:
    """Raises KeyRingExists, KeysAway or KeysDenied."""
    return KeyRing.create(settings.keys_path, provider_of(settings))
