"""Where the keys of key epochs are kept: in files, in HashiCorp Vault or in AWS KMS. A KeyRing works with one of them.

An epoch is a number and 32 bytes that wrap data keys. Only making and destroying epochs, and learning their bytes once
per process, asks the provider: data keys are wrapped and unwrapped here, so that no read waits for a network.
"""

from datetime import timedelta
from typing import Protocol

LABEL = b"plora/kek/1"
"""What a provider that never gives its keys away is asked to authenticate: the answer is the epoch's 32 bytes."""

FIRST = 1


class Provider(Protocol):
    """Keeps the epochs. Raises KeysAway where it does not answer, KeysDenied where it answers that it will not."""

    name: str
    delay: timedelta  # how long after its destruction an epoch could still be brought back

    def epochs(self) -> dict[int, bytes]:
        """Every epoch that exists, with its 32 bytes."""
        ...

    def new_epoch(self) -> int:
        """Make one with a higher number than any before, durably."""
        ...

    def destroy_epoch(self, epoch: int) -> timedelta:
        """Refuse `epoch` to everybody from now on; after what is returned nobody can bring it back. Again is harmless.

        Epochs are destroyed oldest first: Vault can drop versions from the lower end only.
        """
        ...
