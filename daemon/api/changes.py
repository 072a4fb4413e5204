"""GET /v1/changes: what ceased to serve users of the tenant, for hosts and caches that hold adapters."""

from typing import Annotated

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from daemon.api.auth import Exporting, OwnParts
from daemon.api.bodies import StrictRoute
from daemon.api.problems import documented

router = APIRouter(tags=["users"], route_class=StrictRoute)
LIMIT = 1_000
LOOK_S = 0.25
LONGEST_S = 8.0


class ChangeView(BaseModel):
    """One move of a user's pointer. Who it was is not told: whoever holds the adapter knows it by its digest."""

    seq: int
    revoked: Annotated[str | None, Field(description="the digest, and ETag, of what serves no more; null: nothing did")]
    cause: str


class Changes(BaseModel):
    """Changes in the order in which they were made; `next` is where to go on."""

    changes: list[ChangeView]
    next: int


@router.get("/v1/changes", response_model=Changes, responses=documented(401, 403, 422), summary="Follow revocations")
async def follow(
    request: Request,
    parts: OwnParts,
    caller: Exporting,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="`next` of the answer before")] = None,
    wait_s: Annotated[float, Query(ge=0, le=LONGEST_S, description="how long to wait for the first change")] = 0.0,
) -> Changes:
    """Without `after` no changes, and where to begin. A drop of what is revoked is due within two seconds."""
    if after is None:
        return Changes(changes=[], next=await run_sync(parts.store.newest_move, caller.tenant))
    found = await run_sync(parts.store.moves, caller.tenant, after, LIMIT)
    with anyio.move_on_after(wait_s):
        while not found and not parts.stopping.is_set() and not await request.is_disconnected():
            await anyio.sleep(LOOK_S)
            found = await run_sync(parts.store.moves, caller.tenant, after, LIMIT)
    told = [ChangeView(seq=each.seq, revoked=each.revoked, cause=each.cause) for each in found]
    return Changes(changes=told, next=told[-1].seq if told else after)
