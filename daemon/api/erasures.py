"""What became of those who were forgotten: signed receipts, stage by stage."""

from typing import Annotated

from fastapi import APIRouter, Query

from daemon.api.auth import Forgetting, Operating, OwnParts
from daemon.api.bodies import StrictRoute
from daemon.api.custody_schemas import ErasureList, ReceiptView
from daemon.api.problems import Problem, documented
from daemon.api.schemas import UserPath
from daemon.api.views import receipt_view
from daemon.events import check_user

router = APIRouter(prefix="/v1", tags=["users"], route_class=StrictRoute)


@router.get(
    "/users/{user}/erasure",
    response_model=ReceiptView,
    responses=documented(400, 401, 403, 404),
    summary="Show what became of a forgotten user",
)
def show_erasure(parts: OwnParts, caller: Forgetting, user: UserPath) -> ReceiptView:
    """The receipt as of now, signed. 404 for one who was never forgotten, or has consented again since."""
    receipt = parts.store.erasure(caller.tenant, check_user(user))
    if receipt is None:
        raise Problem(404, "unknown_erasure", "no user of this id is forgotten in this tenant")
    return receipt_view(receipt)


@router.get("/erasures", response_model=ErasureList, responses=documented(401, 403, 422), summary="List erasures")
def list_erasures(parts: OwnParts, caller: Operating, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> ErasureList:
    """The tenant's receipts, newest first, by the daemon's own ids."""
    return ErasureList(erasures=[receipt_view(each) for each in parts.store.erasures(caller.tenant, limit)])
