"""What operators ask across users: runs, keys, audit."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from daemon import logs
from daemon.api.auth import Operating, OwnParts, allowed
from daemon.api.bodies import StrictRoute
from daemon.api.custody_schemas import AuditView, EpochView, KeysView, RotationView
from daemon.api.parts import WithParts
from daemon.api.problems import documented
from daemon.api.schemas import RunList
from daemon.api.views import run_view
from policies.access import Action
from storage import Rotation, RunState

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@router.get("/runs", response_model=RunList, responses=documented(401, 403, 422), summary="List runs")
def list_runs(
    parts: OwnParts,
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
    dependencies=[Depends(allowed(Action.ROTATE))],
    summary="Rotate keys",
)
def rotate_keys(parts: WithParts) -> RotationView:
    """Make a new key epoch and rewrap every data key with it. The old epochs stay."""
    return _rotated(parts.store.rotate_keys(parts.now()))


@router.post(
    "/keys/roll-epoch",
    response_model=RotationView,
    responses=documented(401, 403, 503),
    dependencies=[Depends(allowed(Action.ROTATE))],
    summary="Roll the key epoch",
)
def roll_epoch(parts: WithParts) -> RotationView:
    """Rotate and destroy the old epochs: older copies of the database open no more, those of the forgotten too."""
    return _rotated(parts.store.roll_epoch(parts.now()))


@router.get(
    "/keys",
    response_model=KeysView,
    responses=documented(401, 403, 503),
    dependencies=[Depends(allowed(Action.ROTATE))],
    summary="Tell the key epochs",
)
def keys_status(parts: WithParts) -> KeysView:
    """Every key epoch, how many data keys it wraps and what became of it. Reads the row of every data key."""
    status = parts.store.keys_status()
    epochs = [
        EpochView(
            epoch=each.epoch,
            state=each.state.value,
            data_keys=each.data_keys,
            created_at=each.created_at,
            destroyed_at=each.destroyed_at,
        )
        for each in status.epochs
    ]
    return KeysView(
        provider=status.provider,
        answers=status.answers,
        failures=status.failures,
        epochs=epochs,
        transport=list(status.transport),
    )


def _rotated(rotation: Rotation) -> RotationView:
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
    """Hold the whole hash chain against its head, its signed checkpoints, and those that were exported."""
    report = parts.store.verify_audit()
    return AuditView(
        ok=report.ok,
        entries=report.entries,
        broken_at=report.broken_at,
        problem=report.problem or None,
        checkpoints=report.checkpoints,
        exported=report.exported,
        restored=report.restored,
    )
