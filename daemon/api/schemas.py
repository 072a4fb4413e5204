"""The bodies of requests and answers, as the OpenAPI document shows them."""

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from daemon.events import USER_CHARS

USER_PATTERN = r"^[^\x00-\x1f\x7f-\x9f/]+$"
UserId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=USER_CHARS,
        description="the host's id of the user",
        json_schema_extra={"pattern": USER_PATTERN},
    ),
]
UserPath = Annotated[
    str,
    Path(
        description="the host's id of the user",
        json_schema_extra={"pattern": USER_PATTERN, "minLength": 1, "maxLength": USER_CHARS},
    ),
]


def _whole(value: object) -> object:
    """JSON knows one kind of number: 5.0 is 5. Readers of it keep whole ones up to 2^53, hence the bounds."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)


class Request(BaseModel):
    """A body that a caller sends: nothing more than the named fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EventOutcome(BaseModel):
    """What became of one event. 202 means durable."""

    status: Annotated[int, Field(description="the status this event would have had alone")]
    outcome: Annotated[str, Field(description="stored, duplicate, forgotten, ignored, conflict or rejected")]
    code: str | None = None
    detail: str | None = None


class BatchOutcome(BaseModel):
    """One outcome for each event of a batch, in its order."""

    outcomes: list[EventOutcome]


class VersionView(BaseModel):
    """One AdapterVersion: what was made of a run, and how it was judged."""

    version: int
    state: str
    code: str
    reason: str
    scores: Annotated[dict[str, object], Field(description="what the version is worth beside its controls")]
    size_bytes: int
    digest: str
    basis: str
    base: str
    run: int
    created_at: datetime


class RunView(BaseModel):
    """One TrainingRun."""

    run: int
    user: Annotated[str, Field(description="the daemon's own id of the user")]
    state: str
    reason: str
    attempts: int
    error_code: str | None
    error_reason: str | None
    trace: Annotated[str | None, Field(description="the id of the trace of the event that led to it")]
    created_at: datetime
    finished_at: datetime | None


class Counts(BaseModel):
    """What the user has sent."""

    examples: int
    fresh: Annotated[int, Field(description="examples that no run has used")]
    runs_today: int
    last_event_at: Annotated[datetime | None, Field(description="when the latest example arrived")]


class Needed(BaseModel):
    """What a version must reach, and how many events the next run waits for."""

    examples: int
    certainty: float
    gain: Annotated[float, Field(description="nats per example, of the believed gain")]
    events: Annotated[int, Field(description="fresh events until a run is due; waiting for long may be enough")]


class Decided(BaseModel):
    """Why the user is served what they are, in numbers of the latest version that tells; nats are per example."""

    serving: Annotated[str, Field(description="whole, label_bias or generic")]
    version: Annotated[int | None, Field(description="the version that the numbers are of")]
    code: str | None
    reason: str | None
    part: Annotated[str | None, Field(description="what the numbers are of: whole or label_bias")]
    examples: Annotated[int, Field(description="unseen examples that judged it")]
    gain: Annotated[float | None, Field(description="nats better than generic, as measured")]
    believed_gain: Annotated[float | None, Field(description="nats, weighed against what users of the basis gain")]
    believed_gain_sd: float | None
    certainty: Annotated[float | None, Field(description="chance that the user gains")]
    lead: Annotated[float | None, Field(description="nats that the content adds to the label bias, as measured")]
    wrong_user_gap: Annotated[float | None, Field(description="nats that others' content is worse")]
    moved: Annotated[float | None, Field(description="nats between its answers and those given before it")]
    drift: Annotated[str | None, Field(description="what came since the version in use says of it")]
    drift_reason: str | None
    fresh: Annotated[int, Field(description="examples that said so")]
    since: Annotated[int | None, Field(description="number of the event from which on the user is learnt from")]
    needed: Needed


class UserView(BaseModel):
    """Everything the daemon can say of a user without their content."""

    user: Annotated[str, Field(description="the daemon's own id of the user, as in its log")]
    state: str
    consented: bool
    created_at: datetime
    serving: Annotated[int | None, Field(description="the current version; null while the generic model answers")]
    counts: Counts
    decided: Decided
    versions: list[VersionView]
    runs: list[RunView]


class UserSummary(BaseModel):
    """One line of the list of users."""

    user: str
    state: str
    consented: bool
    created_at: datetime


class UserList(BaseModel):
    """A page of users, by the daemon's own ids."""

    users: list[UserSummary]


class RunList(BaseModel):
    """The newest runs."""

    runs: list[RunView]


class DeadLetterRequest(Request):
    """Which dead letters are tried again."""

    run: Annotated[int, Field(ge=1, le=2**53 - 1, description="none: the oldest ones"), Whole] | None = None


class RunRetried(BaseModel):
    """A run that stands in for a dead letter."""

    dead: int
    run: int


class DeadLetterView(BaseModel):
    """What is tried again."""

    retried: list[RunRetried]


class RollbackRequest(Request):
    """Which version to go back to: null is the latest retired one, 0 is the generic model."""

    to: Annotated[int, Field(ge=0, le=2**53 - 1), Whole] | None = None


class RollbackView(BaseModel):
    """The version that serves now; null is the generic model."""

    serving: int | None


class BasisRequest(Request):
    """Ask for a Basis trained on the users who consented."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = "main"


class BasisProgressView(BaseModel):
    """How far training has come: `epoch` of `epochs` are done; losses are mean nats, `held_out` of examples aside."""

    epoch: int
    epochs: int
    loss: float
    held_out: float | None
    examples: int
    examples_per_s: float


class BasisView(BaseModel):
    """One Basis, or the making of it; `progress` is there while it is trained."""

    id: int
    name: str
    state: str
    fingerprint: str | None
    base: str | None
    size_bytes: int | None
    report: dict[str, object] | None
    error_code: str | None
    progress: BasisProgressView | None
    created_at: datetime
    finished_at: datetime | None


class BasisList(BaseModel):
    """Every Basis of the tenant, newest first."""

    bases: list[BasisView]


class CauseView(BaseModel):
    """Why the daemon is not wholly ready."""

    code: str
    detail: str
    blocking: bool


class Readiness(BaseModel):
    """`ready` is false while a blocking cause stands."""

    ready: bool
    causes: list[CauseView]
