"""What an error says about the work it ended: its code for rows and metrics, and what kind of failure it was."""

from collections.abc import Mapping
from types import MappingProxyType

from daemon.trainer_errors import TrainerError, TrainerFailed, TrainerLost
from policies.attempts import Failure
from storage import BlobsAway, CommitUnknown, DiskFailed, KeysAway, KeysDenied, Spent, StoreAway, StoreBusy

AWAY = (StoreAway, StoreBusy, CommitUnknown, DiskFailed, BlobsAway, KeysAway, KeysDenied)
"""The store could not be asked. It says nothing about the work."""

OUT_OF_MEMORY = frozenset({"OutOfMemoryError", "MemoryError"})
"""A Trainer that lived to tell of it; the next one may not, and a smaller cohort may fit."""

SPENT: Mapping[Failure, Spent] = MappingProxyType(
    {Failure.ABSENCE: Spent.NOTHING, Failure.ERROR: Spent.ATTEMPT, Failure.CRASH: Spent.CRASH}
)


def code_of(error: Exception) -> str:
    """Short and stable; never the error's text."""
    return error.code if isinstance(error, TrainerError) else type(error).__name__


def failure_of(error: Exception) -> Failure:
    """The kind of failure."""
    if isinstance(error, TrainerLost):
        return Failure.CRASH
    if isinstance(error, TrainerFailed):
        return Failure.CRASH if error.code in OUT_OF_MEMORY else Failure.ERROR
    return Failure.ABSENCE if isinstance(error, (TrainerError, *AWAY)) else Failure.ERROR
