"""Errors of keys and of those who keep them. None carries a key."""

from storage.errors import StorageError


class KeyRingMissing(StorageError):
    def __init__(self, path: str, missing: str) -> None:
        super().__init__(path, missing)
        self.path, self.missing = path, missing

    def __str__(self) -> str:
        return f"{self.path} has no {self.missing}: restore the key ring that belongs to this database"


class KeyRingExists(StorageError):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} already holds a key ring: open it, or name an empty directory"


class WrongKeyRing(StorageError):
    """The database was made with other keys, or with newer ones."""

    def __init__(self, keys: str, database: str) -> None:
        super().__init__(keys, database)
        self.keys, self.database = keys, database

    def __str__(self) -> str:
        return f"key ring {self.keys} does not open {self.database}: restore the one that belongs to it"


class KeysAway(StorageError):
    """The provider of key epochs does not answer, and has not for longer than what it said before may be trusted."""

    def __init__(self, provider: str, problem: str) -> None:
        super().__init__(provider, problem)
        self.provider, self.problem = provider, problem

    def __str__(self) -> str:
        return (
            f"the key provider {self.provider} does not answer ({self.problem}): see that it runs, then send it again"
        )


class KeysDenied(StorageError):
    """The provider of key epochs answered that it will not: no right, or no such key. Waiting does not help."""

    def __init__(self, provider: str, problem: str) -> None:
        super().__init__(provider, problem)
        self.provider, self.problem = provider, problem

    def __str__(self) -> str:
        return f"the key provider {self.provider} refuses ({self.problem}): check the credentials and their policy"


class KeyFilePermissions(StorageError):
    """A key could be read, or have been placed, by somebody else."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return (
            f"{self.path} {self.problem}: key files must be regular, owned by the daemon's user, "
            "mode 0600, in a directory of mode 0700; those of a mounted Secret root's, mode 0440 or less"
        )


class KeyRingReadOnly(StorageError):
    """Keys of a mounted Secret can not be made or destroyed by the daemon."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path} is a mounted Secret, which the daemon can not change: add an epoch by "
            "`python -m daemon keys next --to DIR` where its files are kept and replace the Secret, "
            "or keep the key epochs in Vault or KMS (PLORA_KEYS_PROVIDER)"
        )


class KeysBesideData(StorageError):
    """Keys and data in one tree would be copied into the same backup, where forgetting ends."""

    def __init__(self, keys: str, data: str) -> None:
        super().__init__(keys, data)
        self.keys, self.data = keys, data

    def __str__(self) -> str:
        return f"key ring {self.keys} and data {self.data} share a directory tree: keep them in separate ones"
