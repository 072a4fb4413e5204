"""The values that go into and come out of the Store, and the states their rows may move through."""

from dataclasses import dataclass, field
from datetime import datetime

from storage.errors import BadRecord
from storage.states import BasisState, EpochState, EventKind, RunState, UserState, VersionState


@dataclass(frozen=True, slots=True)
class Tenant:
    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Caller:
    id: str
    tenant: str
    name: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class CallerRecord:
    """A caller as an operator sees it. Its token is kept nowhere."""

    id: str
    tenant: str
    name: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One fact as a host sent it. `source`, `id` and `user` are the host's words and are never stored readable."""

    source: str = field(repr=False)
    id: str = field(repr=False)
    user: str = field(repr=False)
    kind: EventKind
    content: bytes = field(repr=False)
    time: datetime | None = None
    consent: bool | None = None
    trace: str | None = None  # a W3C traceparent: the run that this event leads to goes on in it

    def __post_init__(self) -> None:
        for name, text in (("source", self.source), ("id", self.id), ("user", self.user)):
            if not 0 < len(text) <= 4096:
                raise BadRecord(name, "1 to 4096 characters")
        if self.time is not None and self.time.tzinfo is None:
            raise BadRecord("time", "an aware datetime")
        if (self.kind is EventKind.CONSENT) != (self.consent is not None):
            raise BadRecord("consent", "given for a CONSENT event, and for no other")


@dataclass(frozen=True, slots=True)
class Recorded:
    """The event is durable. `duplicate` when it already was."""

    seq: int
    user: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    user: str
    kind: EventKind
    time: datetime | None
    received_at: datetime
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class User:
    id: str
    tenant: str
    state: UserState
    consented: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """What a trigger asks about a user. `fresh` counts examples after the last run's watermark, `runs_today` by UTC.

    `dead`: the last run was given up, and none was opened since.
    """

    tenant: str
    consented: bool
    fresh: int
    total: int
    has_open_run: bool
    last_run_at: datetime | None
    last_event_at: datetime | None
    runs_today: int
    forgotten: bool
    dead: bool = False
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """`attempts` counts claims but for those that were given back unspent; `crashes` those that ended in a crash."""

    id: int
    tenant: str
    user: str
    basis: str
    reason: str
    state: RunState
    epoch: int
    attempts: int
    crashes: int
    run_at: datetime
    lease_until: datetime | None
    owner: str | None
    error_code: str | None
    error_reason: str | None
    created_at: datetime
    finished_at: datetime | None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a run made and how it was judged. `watermark_seq` is the last event it saw; `statistics` no host gets.

    `retires` is a version that serves no more, if it still does, even where this one is not promoted.
    """

    adapter: bytes = field(repr=False)
    promoted: bool
    code: str
    reason: str
    scores: str
    base: str
    basis: str
    watermark_seq: int
    statistics: bytes | None = field(default=None, repr=False)
    retires: int | None = None


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """`size_bytes` and `digest` (SHA-256, hex) are of the sealed bytes, so neither is a fingerprint of the content."""

    user: str
    version: int
    run: int
    epoch: int
    state: VersionState
    code: str
    reason: str
    scores: str
    size_bytes: int
    digest: str
    base: str
    basis: str
    watermark_seq: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    version: AdapterVersion
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BasisRecord:
    """`fingerprint`, `base`, `report` and `size_bytes` are known once READY."""

    id: int
    tenant: str
    name: str
    labels_hint: str
    state: BasisState
    epoch: int
    attempts: int
    crashes: int
    run_at: datetime
    lease_until: datetime | None
    owner: str | None
    error_code: str | None
    fingerprint: str | None
    base: str | None
    report: str | None
    size_bytes: int | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of forgetting. `at` is None while it is still to be done; `due` is when it will be at the latest."""

    name: str
    at: datetime | None
    due: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was destroyed. `signature` is of user, tenant and stages."""

    user: str
    stages: tuple[Stage, ...]
    runs: int
    events: int
    versions: int
    tenant: str = ""
    signature: bytes = b""

    @property
    def complete(self) -> bool:
        """Nothing is left in the database itself: every stage has its time but for those that are due later."""
        return all(stage.at is not None or stage.due is not None for stage in self.stages)

    @property
    def final(self) -> bool:
        """Every stage has its time: nothing is left in older copies either."""
        return all(stage.at is not None for stage in self.stages)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """`broken_at` is the first sequence number that does not fit. `problem` is empty, or one of these:

    chain: an entry was edited, deleted, inserted or moved. head: the end is not what the key ring authenticated.
    checkpoint: a signed checkpoint of the database is altered or does not fit. truncated: entries that an exported
    checkpoint tells of are gone, as with an older copy. rewritten: the chain is not the one that was exported.
    exports: a statement there is not ours, or one that was there is gone.
    """

    entries: int
    ok: bool
    broken_at: int | None
    problem: str = ""
    checkpoints: int = 0
    exported: int = 0
    restored: int = 0


@dataclass(frozen=True, slots=True)
class Rotation:
    """`destroyed` are the old epochs whose keys no longer exist; `pending` those that must wait for a reader."""

    rewrapped: int
    epoch: int
    destroyed: tuple[int, ...]
    pending: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EpochStatus:
    """A key epoch. `destroyed_at`: when nobody can have it any more, or, while pending, since when it is to go."""

    epoch: int
    state: EpochState
    data_keys: int
    created_at: datetime
    destroyed_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeysStatus:
    """The key epochs and their provider; `failures` counts how often it could not be asked since the start.

    At most 2^31 wraps are safe under one epoch. `data_keys` is what is counted against that: each is wrapped once per
    epoch, and once more only where a rotation was killed or raced with another. `transport`: numbers of transport keys.
    """

    provider: str
    epochs: tuple[EpochStatus, ...]
    failures: int
    answers: bool
    transport: tuple[int, ...] = ()
