"""The ring's signing key: whoever has its public half can check what this installation states."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Signer:
    """An Ed25519 key, made from its 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def __repr__(self) -> str:
        return f"Signer({self.public.hex()})"

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same message is the same signature."""
        return self._key.sign(message)
