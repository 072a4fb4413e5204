"""The states that rows may have, and the one table of how they may move between them."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class EventKind(Enum):
    EXAMPLE = "example"
    CORRECTION = "correction"
    CONSENT = "consent"


class UserState(Enum):
    ACTIVE = "active"
    FORGOTTEN = "forgotten"


class RunState(Enum):
    """Of a TrainingRun, and of the making of a Basis up to READY."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class VersionState(Enum):
    CANDIDATE = "candidate"
    CURRENT = "current"
    RETIRED = "retired"
    REJECTED = "rejected"


class BasisState(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"


class Spent(Enum):
    """What a claim that is given back has cost: an attempt, an attempt that nobody lived to tell of, or nothing."""

    ATTEMPT = "attempt"
    CRASH = "crash"
    NOTHING = "nothing"


class EpochState(Enum):
    """Of a key epoch: `PRIMARY` wraps new data keys, `ENABLED` only unwraps."""

    PRIMARY = "primary"
    ENABLED = "enabled"
    DESTROY_PENDING = "destroy_pending"
    DESTROYED = "destroyed"


# The one table of transitions: from each state, the states a row may move to. Every UPDATE of a state names
# the states it may come from by `sources`, so a write that this table does not allow touches no row.
# RUNNING -> RUNNING is a new claim of an expired lease; the epoch tells the two apart.
TRANSITIONS: Mapping[Enum, frozenset[Enum]] = MappingProxyType(
    {
        UserState.ACTIVE: frozenset({UserState.FORGOTTEN}),
        UserState.FORGOTTEN: frozenset(),
        RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
        RunState.RUNNING: frozenset(
            {RunState.RUNNING, RunState.QUEUED, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}
        ),
        RunState.SUCCEEDED: frozenset(),
        RunState.FAILED: frozenset(),
        RunState.CANCELLED: frozenset(),
        VersionState.CANDIDATE: frozenset({VersionState.CURRENT, VersionState.REJECTED}),
        VersionState.CURRENT: frozenset({VersionState.RETIRED}),
        VersionState.RETIRED: frozenset({VersionState.CURRENT}),
        VersionState.REJECTED: frozenset(),
        BasisState.QUEUED: frozenset({BasisState.RUNNING}),
        BasisState.RUNNING: frozenset({BasisState.RUNNING, BasisState.QUEUED, BasisState.READY, BasisState.FAILED}),
        BasisState.READY: frozenset({BasisState.FAILED}),  # its blob was lost
        BasisState.FAILED: frozenset(),
        EpochState.PRIMARY: frozenset({EpochState.ENABLED}),
        EpochState.ENABLED: frozenset({EpochState.DESTROY_PENDING}),
        EpochState.DESTROY_PENDING: frozenset({EpochState.DESTROYED}),
        EpochState.DESTROYED: frozenset(),
    }
)


def sources(target: Enum) -> tuple[Enum, ...]:
    """The states from which a row may move to `target`."""
    return tuple(state for state, targets in TRANSITIONS.items() if target in targets)
