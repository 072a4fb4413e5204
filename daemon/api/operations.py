"""What operators ask across users: runs, keys, audit."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from daemon import logs
from daemon.api.auth import Operating, allowed
from daemon.api.parts import WithParts
from daemon.api.problems import documented
from daemon.api.schemas import AuditView, RotationView, RunList
from daemon.api.views import run_view
from policies.access import Action
from storage import RunState

router = APIRouter(prefix="/v1", tags=["operations"])


@router.get("/runs", response_model=RunList, responses=documented(401, 403, 422), summary="List runs")
def list_runs(
    parts: WithParts,
    caller: Operating,
    state: Annotated[RunState | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> RunList:
    """Newest first."""
    return RunList(runs=[run_view(each) for each in parts.store.runs(caller.tenant, state, limit)])


@router.post(
    "/keys/rotate",
    response_model=RotationView,
    responses=documented(401, 403, 503),
    dependencies=[Depends(allowed(Action.OPERATE))],
    summary="Rotate keys",
)
def rotate_keys(parts: WithParts) -> RotationView:
    """Make a new key epoch, rewrap every data key with it, destroy the old one."""
    rotation = parts.store.rotate_keys(parts.now())
    logs.write("keys_rotated", {"rewrapped": rotation.rewrapped})
    return RotationView(
        epoch=rotation.epoch,
        rewrapped=rotation.rewrapped,
        destroyed=list(rotation.destroyed),
        pending=list(rotation.pending),
    )


@router.get(
    "/audit/verify",
    response_model=AuditView,
    responses=documented(401, 403),
    dependencies=[Depends(allowed(Action.OPERATE))],
    summary="Verify the audit log",
)
def verify_audit(parts: WithParts) -> AuditView:
    """Walk the whole hash chain."""
    report = parts.store.verify_audit()
    return AuditView(ok=report.ok, entries=report.entries, broken_at=report.broken_at)
