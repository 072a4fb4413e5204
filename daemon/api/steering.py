"""What an operator sees of a running daemon, and how it is paused, drained and made to look again."""

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated

from fastapi import APIRouter, Path

from daemon import logs
from daemon.api.auth import Operating, OwnParts, Reader, Steerer
from daemon.api.bodies import StrictRoute
from daemon.api.explanation import decided_view
from daemon.api.parts import Parts, WithParts
from daemon.api.problems import Problem, documented
from daemon.api.schemas import CauseView
from daemon.api.steering_schemas import (
    DrainView,
    ExplanationView,
    NextView,
    ReplayView,
    RolloutArmView,
    SinceReplay,
    StatusView,
    SwitchList,
    SwitchView,
    UserReplay,
)
from daemon.api.users import KnownUser
from daemon.api.views import run_view
from daemon.events import check_user
from daemon.switches import INGEST, TRAINING
from daemon.version import release
from policies.trigger import Train, Wait
from storage import AdapterVersion, Served, Serving, UnknownUser, VersionState

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)

MOST_REPLAYED = 1000
RUNS_SHOWN, RUNS_SEARCHED = 3, 500
SwitchName = Annotated[str, Path(description="training or ingest")]


@router.get("/status", response_model=StatusView, responses=documented(401, 403, 503), summary="Tell how it stands")
def tell_status(parts: WithParts, caller: Operating) -> StatusView:  # noqa: ARG001 - who may not is refused
    """The daemon that answers, and the figures of the database over all tenants."""
    health, causes = parts.store.health(parts.now()), parts.causes()
    return StatusView(
        ok=not any(each.blocking for each in causes),
        release=release(),
        daemon=parts.steering.owner,
        draining=parts.steering.draining(),
        working=parts.steering.working(),
        trainer_up=parts.trainer_ready(),
        database=parts.store.dialect,
        schema_revision=health.schema_revision,
        queued=health.queue_depth,
        running=health.running,
        oldest_pending_event_at=health.oldest_pending_event_at,
        users=health.users,
        current_adapters=health.current_adapters,
        dead_letters=health.dead_letters,
        rollouts=len(parts.store.unfinished_rollouts()),
        database_bytes=health.database_bytes,
        paused=_paused(parts),
        causes=[CauseView(code=each.code, detail=each.sentence, blocking=each.blocking) for each in causes],
    )


@router.post(
    "/switches/{name}", response_model=SwitchList, responses=documented(401, 403, 404, 422, 503), summary="Pause"
)
def pause(parts: WithParts, caller: Steerer, name: SwitchName) -> SwitchList:
    """`training`: events are recorded, nothing is opened or claimed. `ingest`: events are answered 503."""
    return _turned(parts, name, caller.id, off=True)


@router.delete(
    "/switches/{name}", response_model=SwitchList, responses=documented(401, 403, 404, 422, 503), summary="Resume"
)
def resume(parts: WithParts, caller: Steerer, name: SwitchName) -> SwitchList:
    """End a pause."""
    answer = _turned(parts, name, caller.id, off=False)
    parts.steering.nudge()
    return answer


@router.post("/drain", response_model=DrainView, responses=documented(401, 403), summary="Drain this daemon")
def drain(parts: WithParts, caller: Steerer) -> DrainView:
    """The daemon that answers is not ready and claims nothing more; it answers until it is stopped."""
    parts.steering.drain()
    logs.write("draining", {"caller": caller.id})
    return DrainView(daemon=parts.steering.owner, draining=parts.steering.draining(), working=parts.steering.working())


@router.post(
    "/replay",
    response_model=ReplayView,
    responses=documented(400, 401, 403, 404, 422, 503),
    summary="Consider users again",
)
def replay(parts: OwnParts, caller: Operating, wanted: UserReplay | SinceReplay) -> ReplayView:
    """Count what was looked at as fresh. Runs are opened by the trigger's own rules; examples are read from events."""
    now = parts.now()
    if isinstance(wanted, UserReplay):
        found = parts.store.user(caller.tenant, check_user(wanted.user))
        if found is None:
            raise UnknownUser("")
        done = parts.store.replay_user(found.id, caller.id, now)
    else:
        since = wanted.since if wanted.since.tzinfo is not None else wanted.since.replace(tzinfo=UTC)
        done = parts.store.replay_since(caller.tenant, since, caller.id, now, after=wanted.after, limit=MOST_REPLAYED)
    parts.steering.nudge()
    logs.write("replayed", {"users": done.users, "caller": caller.id})
    return ReplayView(users=done.users, after=done.after)


@router.get(
    "/users/{user}/explanation",
    response_model=ExplanationView,
    responses=documented(400, 401, 403, 404, 503),
    summary="Explain a user",
)
def explain(parts: OwnParts, caller: Reader, found: KnownUser) -> ExplanationView:
    """Why they are served what they are, what the trigger would say now, and what became of their newest runs."""
    activity = parts.store.activity(found.id, parts.now())
    if activity is None:
        raise UnknownUser(found.id)
    versions = parts.store.versions(found.id)
    current = next((each for each in versions if each.state is VersionState.CURRENT), None)
    runs = [each for each in parts.store.runs(caller.tenant, None, RUNS_SEARCHED) if each.user == found.id]
    return ExplanationView(
        user=found.id,
        consented=found.consented,
        examples=activity.total,
        fresh=activity.fresh,
        last_event_at=activity.last_event_at,
        last_run_at=activity.last_run_at,
        next=_next(parts.steering.decide(found.id, parts.now())),
        trainer_up=parts.trainer_ready(),
        decided=decided_view(versions, current, activity.fresh, parts.settings),
        rollout=_arm(parts, caller.tenant, found.id, versions),
        runs=[run_view(each) for each in runs[:RUNS_SHOWN]],
    )


def _turned(parts: Parts, name: str, actor: str, *, off: bool) -> SwitchList:
    if name not in {TRAINING, INGEST}:
        raise Problem(404, "unknown_switch", f"there is no such switch: {TRAINING} or {INGEST}")
    changed = parts.steering.switches.turn(name, actor, parts.now(), off=off)
    logs.write("paused" if off else "resumed", {"kind": name, "caller": actor})
    return SwitchList(paused=_paused(parts), changed=changed)


def _paused(parts: Parts) -> list[SwitchView]:
    return [SwitchView(name=each.name, at=each.at, actor=each.actor) for each in parts.steering.switches.off()]


def _arm(parts: Parts, tenant: str, user: str, versions: Sequence[AdapterVersion]) -> RolloutArmView | None:
    served = {each.version: Served(each.version, each.digest, each.basis) for each in versions}
    current = next((each.version for each in versions if each.state is VersionState.CURRENT), 0)
    retired = [each.version for each in versions if each.state is VersionState.RETIRED and each.version < current]
    serving = Serving(user, served.get(current), served.get(max(retired, default=0)))
    chosen = parts.rollouts.choose(tenant, serving)
    if chosen.rollout is None or chosen.arm is None:
        return None
    return RolloutArmView(rollout=chosen.rollout, arm=chosen.arm)


def _next(decision: Train | Wait) -> NextView:
    until = decision.until if isinstance(decision, Wait) else None
    word = "wait" if isinstance(decision, Wait) else "train"
    return NextView(decision=word, code=decision.code, reason=decision.reason, until=until)
