"""What is sent to start and end a rollout or to roll a population back, and what the API says of one."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.api.schemas import Request, Whole


class RolloutRequest(Request):
    """Serve `share` of the users what is current, and the others the control, until outcomes decide."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    control: Annotated[
        Literal["previous", "generic"], Field(description="each user's version before, or the generic model")
    ]
    share: Annotated[float, Field(gt=0.001, lt=0.999, description="of users who are served what is current")]
    least_users: Annotated[int, Field(ge=1, le=1_000_000), Whole] = 30
    outcomes_per_user: Annotated[int, Field(ge=1, le=1_000), Whole] = 3
    least_gain: Annotated[
        float, Field(ge=-1, le=1, description="by which current is to be better; below 0: a loss that is put up with")
    ] = 0.0
    error: Annotated[float, Field(ge=1e-6, lt=0.5, description="the chance of a wrong decision")] = 0.05
    longest_s: Annotated[float, Field(ge=1, le=31_622_400)] = 1_209_600.0
    undecided: Annotated[Literal["promote", "roll_back"], Field(description="what to do after that time")] = "promote"


class RolloutEnd(Request):
    """End a rollout by hand: everybody is served what is current, or the control, or nothing is decided."""

    decision: Literal["promote", "roll_back", "cancel"]


class ReturnRequest(BaseModel):
    """Back to what served everybody at an instant; without an offset it is UTC."""

    model_config = ConfigDict(extra="forbid")

    to: datetime


class ReturnView(BaseModel):
    """Of how many users something else serves now."""

    users: int


class ArmView(BaseModel):
    """What became of the answers of one arm."""

    arm: str
    users: int
    outcomes: int
    mean: float


class EffectView(BaseModel):
    """By how much what is current is better, on the scale of outcomes: surely from `low` to `high`."""

    mean: float
    low: float
    high: float


class RolloutView(BaseModel):
    """One rollout. `returning`: the control won, and users are being moved."""

    id: int
    name: str
    control: str
    share: float
    state: Annotated[str, Field(description="open, promoted, cancelled, returning or rolled_back")]
    code: str
    reason: str
    started_at: datetime
    ended_at: datetime | None
    rules: dict[str, float | int | str]


class RolloutDetail(RolloutView):
    """One rollout with what is known of its arms so far."""

    arms: list[ArmView]
    effect: EffectView


class RolloutList(BaseModel):
    """Newest first."""

    rollouts: list[RolloutView]
