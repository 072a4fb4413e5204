"""What a client can raise. None of them repeats a text, a user's id or a token."""

from plora.errors import PLoRAError


class ClientError(PLoRAError):
    """Root of what the client raises."""


class DaemonAway(ClientError):
    """Nothing answers at the daemon's address, or it cannot now."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        told = "nothing answers" if self.status is None else f"it answers {self.status}"
        return f"the daemon is away ({told}): nothing was done that is not safe to do again later"


class Refused(ClientError):
    """The daemon will not do it. `code` is stable; the sentence says what to do."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(status, code, sentence)
        self.status, self.code, self.sentence = status, code, sentence

    def __str__(self) -> str:
        return f"{self.sentence} ({self.status} {self.code})"


class Stale(ClientError):
    """An adapter is held, but for too long nobody could say whether it was revoked meanwhile."""

    def __init__(self, stale_s: float) -> None:
        super().__init__(stale_s)
        self.stale_s = stale_s

    def __str__(self) -> str:
        return f"the daemon was not heard of for {self.stale_s:g} s: adapters held from before may have been revoked"
