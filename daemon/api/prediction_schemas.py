"""The JSON of predictions: what is asked, and what every answer says of itself."""

from typing import Annotated

from pydantic import BaseModel, Field

from daemon.api.schemas import Request, UserId
from daemon.events import TEXT_BYTES


class PredictInput(Request):
    """One text, read as one user would."""

    user: UserId
    text: Annotated[str, Field(max_length=TEXT_BYTES)]
    why: Annotated[bool, Field(strict=True, description="whether the answer shall say what moved it")] = False


class PredictRequest(Request):
    """Texts of any users, answered in one pass."""

    inputs: Annotated[list[PredictInput], Field(min_length=1)]


class Alternative(BaseModel):
    """A label that a held answer might have had."""

    label: str
    probability: float


class HoldView(BaseModel):
    """Why an answer is held: a person is to choose, by POST /v1/corrections."""

    code: str
    reason: str
    alternatives: list[Alternative]


class MovedBy(BaseModel):
    """One of the user's own examples, and how far it moved the log-odds of the answered label, in nats."""

    text: str
    label: str
    nats: float


class WhyView(BaseModel):
    """What moved an answer, most first, and how far it is from the generic model's: KL divergence in nats."""

    generic_label: str | None
    from_generic_nats: float
    moved_by: list[MovedBy]


class PredictAnswer(BaseModel):
    """A label or a text, how sure the model is, and whose adapter spoke."""

    answer: Annotated[str, Field(description="what this answer is called in corrections and outcomes, for seven days")]
    label: Annotated[str | None, Field(description="null where the model writes text, and where the answer is held")]
    text: str | None
    confidence: Annotated[float, Field(description="calibrated: of answers with .8, four in five should be right")]
    probabilities: dict[str, float]
    version: Annotated[int | None, Field(description="the adapter's version; null for the generic model")]
    generic: bool
    known_user: Annotated[bool, Field(description="false where this tenant has no such user, or has forgotten them")]
    basis: str
    arm: Annotated[str | None, Field(description="by which arm of the tenant's rollout; null without one")]
    held: bool
    hold: HoldView | None
    why: WhyView | None


class PredictAnswers(BaseModel):
    """One answer for each input, in order."""

    answers: list[PredictAnswer]
