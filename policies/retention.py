"""What is kept, and what has been kept long enough."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from policies.decision import Decision
from policies.facts import InvalidFact, aware, distinct, whole

CENTURY_DAYS = 36_525


class VersionState(Enum):
    """Where an adapter version stands."""

    CANDIDATE = "candidate"
    CURRENT = "current"
    RETIRED = "retired"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One adapter version of the user; a higher number is newer."""

    version: int
    state: VersionState
    created_at: datetime

    def __post_init__(self) -> None:
        whole("StoredVersion.version", self.version)
        aware("StoredVersion.created_at", self.created_at)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of the user."""

    seq: int
    received_at: datetime

    def __post_init__(self) -> None:
        whole("StoredEvent.seq", self.seq)
        aware("StoredEvent.received_at", self.received_at)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything stored of one user."""

    versions: tuple[StoredVersion, ...] = ()
    events: tuple[StoredEvent, ...] = ()

    def __post_init__(self) -> None:
        distinct("StoredVersion.version", [version.version for version in self.versions])
        distinct("StoredEvent.seq", [event.seq for event in self.events])
        current = sum(version.state is VersionState.CURRENT for version in self.versions)
        if current > 1:
            raise InvalidFact("the number of current versions", str(current), "at most 1")


@dataclass(frozen=True, slots=True)
class Rules:
    """How long things are kept."""

    keep_versions: int = 3  # retired versions to roll back to, beside the current one
    rejected_days: int = 30
    event_days: int | None = 365  # None: events are kept until their user is forgotten
    moves_days: int = 90  # how far back a population can be rolled; outcomes are kept as long

    def __post_init__(self) -> None:
        whole("Rules.keep_versions", self.keep_versions)
        whole("Rules.rejected_days", self.rejected_days, most=CENTURY_DAYS)
        whole("Rules.moves_days", self.moves_days, least=1, most=CENTURY_DAYS)
        if self.event_days is not None:
            whole("Rules.event_days", self.event_days, most=CENTURY_DAYS)


@dataclass(frozen=True, slots=True)
class Forget(Decision):
    """Destroy one version (by its number) or one event (by its seq)."""

    id: int


@dataclass(frozen=True, slots=True)
class Keep(Decision):
    """Keep all but these."""

    forget_versions: tuple[Forget, ...]
    forget_events: tuple[Forget, ...]


def keep(inventory: Inventory, rules: Rules, now: datetime) -> Keep:
    """Decide what of one user is no longer kept. The current version and a candidate, not yet judged, always are."""
    aware("now", now)
    versions = (*_superseded(inventory.versions, rules), *_refused(inventory.versions, rules, now))
    events = _expired(inventory.events, rules, now)
    if not versions and not events:
        return Keep("nothing has outlived its rule", "nothing_to_forget", (), ())
    ordered = tuple(sorted(versions, key=lambda forget: forget.id))
    return Keep(
        f"{len(versions)} versions and {len(events)} events have outlived their rules", "outlived", ordered, events
    )


def _superseded(versions: Iterable[StoredVersion], rules: Rules) -> list[Forget]:
    retired = sorted((v.version for v in versions if v.state is VersionState.RETIRED), reverse=True)
    reason = f"not among the last {rules.keep_versions} retired versions"
    return [Forget(reason, "superseded", version) for version in retired[rules.keep_versions :]]


def _refused(versions: Iterable[StoredVersion], rules: Rules, now: datetime) -> list[Forget]:
    refused = [v for v in versions if v.state is VersionState.REJECTED]
    old = [v.version for v in refused if now - v.created_at > timedelta(days=rules.rejected_days)]
    return [
        Forget(f"rejected more than {rules.rejected_days} days ago", "rejected_long_ago", version) for version in old
    ]


def _expired(events: Iterable[StoredEvent], rules: Rules, now: datetime) -> tuple[Forget, ...]:
    if rules.event_days is None:
        return ()
    old = sorted(e.seq for e in events if now - e.received_at > timedelta(days=rules.event_days))
    return tuple(Forget(f"received more than {rules.event_days} days ago", "event_expired", seq) for seq in old)
