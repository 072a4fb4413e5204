"""What is wrong with what was asked of a rollout."""

from storage.errors import StorageError


class RolloutOpen(StorageError):
    """A tenant has one rollout at a time: the arms of two would not be told apart."""

    def __init__(self, rollout: int) -> None:
        super().__init__(rollout)
        self.rollout = rollout

    def __str__(self) -> str:
        return f"rollout {self.rollout} of this tenant is still open: end it first"


class UnknownRollout(StorageError):
    def __init__(self, rollout: int) -> None:
        super().__init__(rollout)
        self.rollout = rollout

    def __str__(self) -> str:
        return f"this tenant has no rollout {self.rollout}: list them"


class RolloutEnded(StorageError):
    """It was decided before, and is decided once."""

    def __init__(self, rollout: int, state: str) -> None:
        super().__init__(rollout, state)
        self.rollout, self.state = rollout, state

    def __str__(self) -> str:
        return f"rollout {self.rollout} is {self.state} already: start another one"
