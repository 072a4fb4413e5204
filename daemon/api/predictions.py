"""POST /v1/predict: texts answered as their users would, many users in one pass."""

from fastapi import APIRouter

from daemon.answering import Given, Question
from daemon.api.auth import OwnParts, Predicting, charge
from daemon.api.bodies import StrictRoute
from daemon.api.prediction_schemas import (
    Alternative,
    HoldView,
    MovedBy,
    PredictAnswer,
    PredictAnswers,
    PredictRequest,
    WhyView,
)
from daemon.api.problems import Problem, documented
from daemon.events import check_user
from daemon.predictor import GENERIC, NoBasis
from daemon.trainer_errors import TrainerError, TrainerLost, TrainerRefuses, TrainerUnavailable
from policies.hold import Hold

router = APIRouter(tags=["predictions"], route_class=StrictRoute)
RETRY = {"Retry-After": "2"}
MOST_REASONS = 16
"""Answers of one request that may say why: each takes passes over the user's own examples too."""


@router.post(
    "/v1/predict",
    response_model=PredictAnswers,
    responses=documented(400, 401, 403, 409, 413, 422, 429, 503),
    summary="Predict as users",
)
def predict(parts: OwnParts, caller: Predicting, wanted: PredictRequest) -> PredictAnswers:
    """A user without an adapter, or never seen, is answered by the generic model, and the answer says so."""
    most = parts.settings.max_predict_inputs
    if len(wanted.inputs) > most:
        raise Problem(413, "too_many_inputs", f"a request may hold {most} inputs")
    if sum(each.why for each in wanted.inputs) > MOST_REASONS:
        raise Problem(413, "too_many_reasons", f"a request may ask why of {MOST_REASONS} answers")
    charge(parts, caller, len(wanted.inputs))
    questions = [Question(check_user(each.user), each.text, each.why) for each in wanted.inputs]
    try:
        given = parts.answering.answer(caller.tenant, questions)
    except NoBasis as error:
        raise Problem(409, "no_basis", str(error)) from error
    except TrainerError as error:
        parts.metrics.predictions.labels("failed").inc(len(questions))
        raise unavailable(error) from error
    for each in given:
        parts.metrics.predictions.labels(outcome_of(each)).inc()
    return PredictAnswers(answers=[_answer(each) for each in given])


def unavailable(error: TrainerError) -> Problem:
    """What a host is told where no replica has answered."""
    if isinstance(error, TrainerRefuses):
        return Problem(422, error.code, str(error))
    passing = isinstance(error, TrainerUnavailable | TrainerLost)
    return Problem(503, error.code, str(error), RETRY if passing else {})


def outcome_of(given: Given) -> str:
    """By what its metric counts an answer."""
    if given.hold is not None:
        return "held"
    return "generic" if given.predicted.speaking.version == GENERIC else "personal"


def _answer(given: Given) -> PredictAnswer:
    prediction, speaking = given.prediction, given.predicted.speaking
    generic = speaking.version == GENERIC
    return PredictAnswer(
        answer=given.token,
        label=None if given.hold is not None else prediction.label,
        text=prediction.text,
        confidence=prediction.confidence,
        probabilities=prediction.probabilities,
        version=None if generic else speaking.version,
        generic=generic,
        known_user=speaking.user is not None,
        basis=speaking.basis,
        arm=speaking.arm,
        held=given.hold is not None,
        hold=None if given.hold is None else _hold(given.hold),
        why=_why(given),
    )


def _hold(hold: Hold) -> HoldView:
    alternatives = [Alternative(label=label, probability=chance) for label, chance in hold.alternatives]
    return HoldView(code=hold.code, reason=hold.reason, alternatives=alternatives)


def _why(given: Given) -> WhyView | None:
    why = given.prediction.why
    if why is None:
        return None
    moved = [(given.taught[each.example], each.nats) for each in why.moved]
    return WhyView(
        generic_label=why.generic_label,
        from_generic_nats=why.from_generic,
        moved_by=[MovedBy(text=text, label=label, nats=nats) for (text, label), nats in moved],
    )
