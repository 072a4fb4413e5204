"""/v1/rollouts and /v1/rollback: what whole populations are served."""

import json
from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath

from daemon import logs
from daemon.api.auth import OwnParts, Reader, Rolling
from daemon.api.bodies import StrictRoute
from daemon.api.parts import Parts
from daemon.api.problems import Problem, documented
from daemon.api.rollout_schemas import (
    ArmView,
    EffectView,
    ReturnRequest,
    ReturnView,
    RolloutDetail,
    RolloutEnd,
    RolloutList,
    RolloutRequest,
    RolloutView,
)
from daemon.rollouts import CANCELLED, PROMOTED, RETURNING, rules_text
from policies.rollout import Rules
from storage import NewRollout, Rollout, RolloutEnded, RolloutOpen

router = APIRouter(prefix="/v1", tags=["rollouts"], route_class=StrictRoute)

MOST_LISTED = 1000
STATES = {"promote": PROMOTED, "roll_back": RETURNING, "cancel": CANCELLED}


def known_rollout(
    parts: OwnParts, caller: Reader, rollout: Annotated[int, InPath(ge=1, le=2**53 - 1, description="its number")]
) -> Rollout:
    """The rollout of the caller's tenant."""
    found = parts.store.rollout(caller.tenant, rollout)
    if found is None:
        raise Problem(404, "unknown_rollout", "this tenant has no such rollout")
    return found


KnownRollout = Annotated[Rollout, Depends(known_rollout)]


@router.post(
    "/rollouts",
    status_code=201,
    response_model=RolloutView,
    responses=documented(400, 401, 403, 409, 422, 503),
    summary="Start a rollout",
)
def start_rollout(parts: OwnParts, caller: Rolling, wanted: RolloutRequest) -> RolloutView:
    """Users are drawn into arms by hashing. A tenant has one rollout at a time."""
    rules = Rules(**wanted.model_dump(exclude={"name", "control", "share"}))
    new = NewRollout(wanted.name, wanted.control, wanted.share, rules_text(rules))
    try:
        return _view(parts.rollouts.start_one(caller.tenant, new, caller.id))
    except RolloutOpen as still:
        raise Problem(409, "rollout_open", str(still)) from None


@router.get("/rollouts", response_model=RolloutList, responses=documented(401, 403, 422), summary="List rollouts")
def list_rollouts(
    parts: OwnParts, caller: Reader, limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100
) -> RolloutList:
    """Newest first."""
    return RolloutList(rollouts=[_view(each) for each in parts.store.rollouts(caller.tenant, limit)])


@router.get(
    "/rollouts/{rollout}",
    response_model=RolloutDetail,
    responses=documented(401, 403, 404, 422),
    summary="Show a rollout",
)
def show_rollout(parts: OwnParts, found: KnownRollout) -> RolloutDetail:
    """The arms, the gain as it is known now, and while it is open what policy says of it."""
    decided, effect = parts.rollouts.judged(found, parts.now())
    code, reason = (decided.code, decided.reason) if found.code is None else (found.code, found.reason or "")
    told = _view(found).model_dump() | {"code": code, "reason": reason}
    arms = [ArmView(**asdict(each)) for each in parts.store.outcome_tallies(found.id)]
    return RolloutDetail(**told, arms=arms, effect=EffectView(**asdict(effect)))


@router.post(
    "/rollouts/{rollout}/end",
    response_model=RolloutView,
    responses=documented(400, 401, 403, 404, 409, 422, 503),
    summary="End a rollout",
)
def end_rollout(parts: OwnParts, caller: Rolling, found: KnownRollout, wanted: RolloutEnd) -> RolloutView:
    """By hand. After `roll_back` it is `returning` until every user is served the control."""
    try:
        why = ("ended_by_hand", f"a caller asked to {wanted.decision.replace('_', ' ')}")
        return _view(parts.rollouts.end_one(found, STATES[wanted.decision], why, caller.id))
    except RolloutEnded as before:
        raise Problem(409, "rollout_ended", str(before)) from None


@router.post(
    "/rollback",
    response_model=ReturnView,
    responses=documented(400, 401, 403, 409, 422, 503),
    summary="Roll a population back",
)
def roll_back_all(parts: OwnParts, caller: Rolling, wanted: ReturnRequest) -> ReturnView:
    """Serve every user of the tenant what served them at an instant; the generic model where that is not kept.

    Part after part: a call that was cut short is sent again, and does the rest.
    """
    to = wanted.to if wanted.to.tzinfo is not None else wanted.to.replace(tzinfo=UTC)
    now = parts.now()
    if to > now:
        raise Problem(409, "wrong_instant", "this instant is yet to come")
    if to < now - timedelta(days=_days(parts)):
        raise Problem(409, "too_long_ago", f"what served whom is known for {_days(parts)} days")
    moved = parts.store.roll_back_all(caller.tenant, to, caller.id, now)
    parts.metrics.versions.labels("rolled_back").inc(moved)
    logs.write("population_rolled_back", {"users": moved, "caller": caller.id})
    return ReturnView(users=moved)


def _days(parts: Parts) -> int:
    return parts.settings.retention.moves_days


def _view(rollout: Rollout) -> RolloutView:
    return RolloutView(
        id=rollout.id,
        name=rollout.name,
        control=rollout.control,
        share=rollout.share,
        state=rollout.state,
        code=rollout.code or "open",
        reason=rollout.reason or "",
        started_at=rollout.started_at,
        ended_at=rollout.ended_at,
        rules=json.loads(rollout.rules),
    )
