"""Dead letters: runs that were given up, and having them tried again."""

from typing import Annotated

from fastapi import APIRouter, Query

from daemon import logs
from daemon.api.auth import Operating, OwnParts
from daemon.api.bodies import StrictRoute
from daemon.api.problems import Problem, documented
from daemon.api.schemas import DeadLetterRequest, DeadLetterView, RunList, RunRetried
from daemon.api.views import run_view

router = APIRouter(prefix="/v1/runs/dead-letter", tags=["operations"], route_class=StrictRoute)

MOST_AT_ONCE = 1000


@router.get("", response_model=RunList, responses=documented(401, 403, 422), summary="List dead letters")
def list_dead_letters(
    parts: OwnParts,
    caller: Operating,
    limit: Annotated[int, Query(ge=1, le=MOST_AT_ONCE)] = 100,
    after: Annotated[int, Query(ge=0, le=2**53 - 1, description="a run: list those behind it")] = 0,
) -> RunList:
    """Runs that were given up and that no later run of their user has replaced, oldest first."""
    return RunList(runs=[run_view(each) for each in parts.store.dead_letters(caller.tenant, limit, after)])


@router.post(
    "/retry",
    response_model=DeadLetterView,
    responses=documented(401, 403, 404, 422, 503, 507),
    summary="Try dead letters again",
)
def retry_dead_letters(parts: OwnParts, caller: Operating, wanted: DeadLetterRequest) -> DeadLetterView:
    """Queue a new run in place of one dead letter, or of the oldest thousand. Users without consent are left out."""
    runs = None if wanted.run is None else [wanted.run]
    retried = parts.store.retry_dead(caller.tenant, runs, MOST_AT_ONCE, caller.id, parts.now())
    if runs and not retried:
        raise Problem(404, "unknown_dead_letter", "this tenant has no such dead letter of a user who consents")
    logs.write("dead_letters_retried", {"runs": len(retried), "caller": caller.id})
    return DeadLetterView(retried=[RunRetried(dead=dead, run=run.id) for dead, run in retried.items()])
