"""What the API says of a running daemon, and what an operator sends to steer it."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from daemon.api.schemas import USER_PATTERN, CauseView, Decided, RunView
from daemon.events import USER_CHARS


class SwitchView(BaseModel):
    """What is paused, since when, and by which caller."""

    name: str
    at: datetime
    actor: str


class SwitchList(BaseModel):
    """What is paused, for every daemon on this database."""

    paused: list[SwitchView]
    changed: bool = False


class StatusView(BaseModel):
    """One daemon, and the whole that it works for."""

    ok: Annotated[bool, Field(description="ready: no blocking cause stands")]
    release: str
    daemon: Annotated[str, Field(description="which one answered")]
    draining: bool
    working: Annotated[int, Field(description="pieces of work under way in this daemon")]
    trainer_up: bool
    database: str
    schema_revision: str
    queued: int
    running: int
    oldest_pending_event_at: datetime | None
    users: int
    current_adapters: int
    dead_letters: int
    rollouts: Annotated[int, Field(description="open, or users are being moved back by them")]
    database_bytes: int
    paused: list[SwitchView]
    causes: list[CauseView]


class DrainView(BaseModel):
    """The daemon that answered claims nothing more; `working` is what it still has at hand."""

    daemon: str
    draining: bool
    working: int


class UserReplay(BaseModel):
    """One user."""

    model_config = ConfigDict(extra="forbid")

    user: Annotated[
        str,
        Field(
            description="the host's id of the user",
            json_schema_extra={"pattern": USER_PATTERN, "minLength": 1, "maxLength": USER_CHARS},
        ),
    ]


class SinceReplay(BaseModel):
    """Everyone of whom something came since a time; without an offset it is UTC."""

    model_config = ConfigDict(extra="forbid")

    since: datetime
    after: Annotated[str, Field(pattern="^[0-9a-f]{0,32}$", description="the `after` of the answer before")] = ""


class ReplayView(BaseModel):
    """How many users are considered again; while `after` is given, ask again with it."""

    users: int
    after: str | None


class NextView(BaseModel):
    """What the trigger would say now."""

    decision: Annotated[str, Field(description="train or wait")]
    code: str
    reason: str
    until: datetime | None


class RolloutArmView(BaseModel):
    """The open rollout that a user is in, and the arm that answers for them."""

    rollout: int
    arm: str


class ExplanationView(BaseModel):
    """Why a user is served what they are, and what happens next."""

    user: str
    consented: bool
    examples: int
    fresh: int
    last_event_at: datetime | None
    last_run_at: datetime | None
    next: NextView
    trainer_up: bool
    decided: Decided
    rollout: RolloutArmView | None
    runs: Annotated[list[RunView], Field(description="the newest few")]
