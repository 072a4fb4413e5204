"""/v1/users: what is known of a user, their adapter, roll back, forget."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import Response

from daemon import logs
from daemon.api.auth import Forgetting, Operating, OwnParts, Reader, Rolling, WithCaller, allowed
from daemon.api.bodies import StrictRoute
from daemon.api.custody_schemas import ReceiptView
from daemon.api.explanation import decided_view
from daemon.api.problems import Problem, documented
from daemon.api.schemas import Counts, RollbackRequest, RollbackView, UserList, UserPath, UserSummary, UserView
from daemon.api.views import receipt_view, run_view, version_view
from daemon.events import check_user
from policies.access import Action
from storage import AdapterVersion, UnknownUser, User, UserState, VersionState

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=StrictRoute)
RUNS_SHOWN, RUNS_SEARCHED = 20, 500
OCTETS = "application/octet-stream"


def known_user(parts: OwnParts, caller: WithCaller, user: UserPath) -> User:
    """The active user of the caller's tenant. A foreign, unknown or forgotten one is 404: the caller learns nothing."""
    found = parts.store.user(caller.tenant, check_user(user))
    if found is None or found.state is not UserState.ACTIVE:
        raise Problem(404, "unknown_user", "this tenant has no such user")
    return found


KnownUser = Annotated[User, Depends(known_user)]


@router.get("", response_model=UserList, responses=documented(401, 403, 422), summary="List users")
def list_users(
    parts: OwnParts,
    caller: Operating,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=64, description="the last user of the page before")] = "",
) -> UserList:
    """By the daemon's own ids: the host's ids are sealed."""
    users = parts.store.users(caller.tenant, limit, after)
    return UserList(
        users=[
            UserSummary(user=each.id, state=each.state.value, consented=each.consented, created_at=each.created_at)
            for each in users
        ]
    )


@router.get("/{user}", response_model=UserView, responses=documented(400, 401, 403, 404), summary="Show a user")
def show_user(parts: OwnParts, caller: Reader, found: KnownUser) -> UserView:
    """State, consent, counts, why they are served what they are, and every version and run with its reason."""
    activity = parts.store.activity(found.id, parts.now())
    if activity is None:
        raise UnknownUser(found.id)
    versions = parts.store.versions(found.id)
    current = next((each for each in versions if each.state is VersionState.CURRENT), None)
    runs = [each for each in parts.store.runs(caller.tenant, None, RUNS_SEARCHED) if each.user == found.id]
    return UserView(
        user=found.id,
        state=found.state.value,
        consented=found.consented,
        created_at=found.created_at,
        serving=current.version if current else None,
        counts=Counts(
            examples=activity.total,
            fresh=activity.fresh,
            runs_today=activity.runs_today,
            last_event_at=activity.last_event_at,
        ),
        decided=decided_view(versions, current, activity.fresh, parts.settings),
        versions=[version_view(each) for each in versions],
        runs=[run_view(each) for each in runs[:RUNS_SHOWN]],
    )


@router.get(
    "/{user}/adapter",
    response_class=Response,
    responses=documented(
        *(400, 401, 403, 404),
        own={
            200: {
                "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
                "description": "the adapter",
            },
            304: {"description": "the adapter named by If-None-Match still serves"},
        },
    ),
    dependencies=[Depends(allowed(Action.EXPORT))],
    summary="Fetch a user's adapter",
)
def fetch_adapter(
    parts: OwnParts,
    found: KnownUser,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The bytes for `plora.loads_adapter`; 404 while the generic model answers for this user."""
    version = parts.store.current_version(found.id)
    if version is None:
        raise Problem(404, "no_adapter", "this user is served by the generic model; their state says why")
    if _etag(version) in _etags(if_none_match or ""):
        return Response(status_code=304, headers=_adapter_headers(version))
    stored = parts.store.current_adapter(found.id)
    if stored is None:  # rolled back or forgotten since the line above
        raise UnknownUser(found.id)
    return Response(stored.content, headers=_adapter_headers(stored.version), media_type=OCTETS)


@router.post(
    "/{user}/rollback",
    response_model=RollbackView,
    responses=documented(400, 401, 403, 404, 422),
    summary="Roll back a user",
)
def roll_back(parts: OwnParts, caller: Rolling, found: KnownUser, wanted: RollbackRequest) -> RollbackView:
    """Move the pointer to an earlier version, or with `{"to": 0}` to the generic model."""
    version = parts.store.rollback(found.id, wanted.to, caller.id, parts.now())
    parts.metrics.versions.labels("rolled_back").inc()
    serving = version.version if version else None
    logs.write("rolled_back", {"user": found.id, "version": serving, "caller": caller.id})
    return RollbackView(serving=serving)


@router.delete("/{user}", response_model=ReceiptView, responses=documented(400, 401, 403, 404), summary="Forget a user")
def forget(parts: OwnParts, caller: Forgetting, user: UserPath) -> ReceiptView:
    """Destroy the user's data key and rows. The receipt says when each step was done."""
    receipt = parts.store.forget(caller.tenant, check_user(user), caller.id, parts.now())
    if receipt is None:
        raise Problem(404, "unknown_user", "this tenant has no such user")
    logs.write("forgotten", {"user": receipt.user, "events": receipt.events, "caller": caller.id})
    return receipt_view(receipt)


def _etag(version: AdapterVersion) -> str:
    return f'"{version.digest}"'


def _etags(header: str) -> set[str]:
    return {each.strip().removeprefix("W/") for each in header.split(",")}


def _adapter_headers(version: AdapterVersion) -> dict[str, str]:
    return {
        "ETag": _etag(version),
        "Plora-Version": str(version.version),
        "Plora-Basis": version.basis,
        "Cache-Control": "private, no-cache",
    }
