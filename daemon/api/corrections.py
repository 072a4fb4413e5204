"""POST /v1/corrections: the right label of an answer, a held one above all."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from daemon.answer_token import LONGEST, WrongAnswerToken
from daemon.api.auth import OwnParts
from daemon.api.auth import Recording as MayRecord
from daemon.api.bodies import StrictRoute
from daemon.api.events import recording_of
from daemon.api.problems import Problem, documented
from daemon.api.schemas import EventOutcome, Request
from daemon.corrections import Corrections, NobodysAnswer, NoText
from daemon.events import TEXT_BYTES
from storage import UnknownUser

router = APIRouter(tags=["predictions"], route_class=StrictRoute)


class CorrectionRequest(Request):
    """An answer by its token, and what would have been right."""

    answer: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    label: Annotated[str, Field(min_length=1, max_length=TEXT_BYTES)]
    text: Annotated[str | None, Field(max_length=TEXT_BYTES)] = None


@router.post(
    "/v1/corrections",
    status_code=202,
    response_model=EventOutcome,
    responses=documented(400, 401, 403, 404, 409, 422, 429, 503),
    summary="Correct an answer",
)
def correct(parts: OwnParts, caller: MayRecord, wanted: CorrectionRequest) -> EventOutcome:
    """The user learns from it as from any correction, and it counts for or against the version that answered."""
    tokens = parts.answering.tokens
    corrections = Corrections(parts.store, caller.tenant, tokens, recording_of(parts, caller))
    try:
        outcome = corrections.correct(wanted.answer, wanted.label, wanted.text, parts.now())
    except WrongAnswerToken as error:
        raise Problem(404, "wrong_answer", str(error)) from error
    except (NoText, NobodysAnswer) as error:
        raise Problem(422, "no_text" if isinstance(error, NoText) else "nobodys_answer", str(error)) from error
    except UnknownUser as error:
        raise Problem(404, "unknown_user", "this tenant has no such user any more") from error
    if not outcome.accepted:
        raise Problem(outcome.status, outcome.code or "rejected", outcome.sentence or "it was not taken")
    parts.metrics.events.labels(outcome.outcome, "correction").inc()
    if outcome.user is not None:
        parts.considering.add(outcome.user)
    return EventOutcome(status=outcome.status, outcome=outcome.outcome, code=None)
