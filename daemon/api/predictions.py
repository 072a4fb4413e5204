"""POST /v1/predict: texts answered as their users would, many users in one pass."""

from fastapi import APIRouter

from daemon.api.auth import OwnParts, Predicting, charge
from daemon.api.bodies import StrictRoute
from daemon.api.problems import Problem, documented
from daemon.api.schemas import PredictAnswer, PredictAnswers, PredictRequest
from daemon.events import check_user
from daemon.predictor import GENERIC, NoBasis, Predicted
from daemon.trainer_client import TrainerError

router = APIRouter(tags=["predictions"], route_class=StrictRoute)
RETRY = {"Retry-After": "2"}


@router.post(
    "/v1/predict",
    response_model=PredictAnswers,
    responses=documented(400, 401, 403, 409, 413, 422, 503),
    summary="Predict as users",
)
def predict(parts: OwnParts, caller: Predicting, wanted: PredictRequest) -> PredictAnswers:
    """A user without an adapter, or never seen, is answered by the generic model."""
    most = parts.settings.max_predict_inputs
    if len(wanted.inputs) > most:
        raise Problem(413, "too_many_inputs", f"a request may hold {most} inputs")
    charge(parts, caller, len(wanted.inputs))
    rows = [(check_user(each.user), each.text) for each in wanted.inputs]
    try:
        answered = parts.predictor.predict(caller.tenant, rows)
    except NoBasis as error:
        raise Problem(409, "no_basis", str(error)) from error
    except TrainerError as error:
        parts.metrics.predictions.labels("failed").inc(len(rows))
        raise Problem(503, error.code, str(error), RETRY) from error
    for each in answered:
        parts.metrics.predictions.labels("generic" if each.version == GENERIC else "personal").inc()
    return PredictAnswers(answers=[_answer(each) for each in answered])


def _answer(predicted: Predicted) -> PredictAnswer:
    generic = predicted.version == GENERIC
    return PredictAnswer(
        label=predicted.prediction.label,
        text=predicted.prediction.text,
        confidence=predicted.prediction.confidence,
        probabilities=predicted.prediction.probabilities,
        version=None if generic else predicted.version,
        generic=generic,
        basis=predicted.basis,
    )
