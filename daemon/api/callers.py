"""/v1/callers and /v1/tenants: who may ask this daemon, and for whom."""

import secrets
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from daemon import logs
from daemon.api.auth import WithCaller, admit_denial, allowed
from daemon.api.bodies import StrictRoute
from daemon.api.caller_schemas import (
    CallerAdded,
    CallerList,
    CallerRequest,
    CallerView,
    TenantList,
    TenantRequest,
    TenantView,
)
from daemon.api.parts import WithParts
from daemon.api.problems import Problem, documented
from policies.access import GRANTS, Action, may_give
from storage import Caller, CallerRecord

router = APIRouter(prefix="/v1", tags=["callers"], route_class=StrictRoute)
TOKEN_BYTES = 32
TENANT = Query(min_length=1, max_length=128, description="its name; without it the caller's own")
Name = Annotated[str, Path(min_length=1, max_length=128)]
Which = Annotated[str | None, TENANT]


@router.get("/callers", response_model=CallerList, responses=documented(401, 403, 404, 422), summary="List callers")
def list_callers(parts: WithParts, caller: WithCaller, tenant: Which = None) -> CallerList:
    """By name, revoked and expired ones too. Tokens are kept nowhere, so none is shown."""
    found = parts.store.callers(_tenant(parts, caller, tenant, frozenset()))
    return CallerList(callers=[_view(each) for each in found])


@router.post(
    "/callers",
    status_code=201,
    response_model=CallerAdded,
    responses=documented(401, 403, 404, 409, 422, 503, 507),
    summary="Add a caller",
)
def add_caller(parts: WithParts, caller: WithCaller, wanted: CallerRequest) -> CallerAdded:
    """The answer holds the token, which is shown only now: the store keeps its hash."""
    unknown = sorted(set(wanted.scopes) - GRANTS.keys())
    if unknown:
        raise Problem(422, "unknown_scope", f"scopes are {', '.join(GRANTS)}")
    tenant = _tenant(parts, caller, wanted.tenant, frozenset(wanted.scopes))
    known = {each.name: each for each in parts.store.callers(tenant)}
    if wanted.name in known and known[wanted.name].revoked_at is None:
        raise Problem(409, "caller_exists", "a caller of this name has a token: revoke it first, or take another name")
    token = f"plr_{secrets.token_urlsafe(TOKEN_BYTES)}"
    now = parts.now()
    expires_at = None if wanted.expires_days is None else now + timedelta(days=wanted.expires_days)
    added = parts.store.add_caller(tenant, wanted.name, wanted.scopes, token, now, expires_at=expires_at)
    logs.write("caller_added", {"caller": added.id})
    return CallerAdded(id=added.id, name=wanted.name, scopes=sorted(added.scopes), expires_at=expires_at, token=token)


@router.delete(
    "/callers/{name}",
    response_model=CallerView,
    responses=documented(401, 403, 404, 422, 503, 507),
    summary="Revoke a caller",
)
def revoke_caller(parts: WithParts, caller: WithCaller, name: Name, tenant: Which = None) -> CallerView:
    """From the next request on the token is wrong. It cannot be made right again."""
    place = _tenant(parts, caller, tenant, frozenset())
    known = {each.name: each for each in parts.store.callers(place)}
    if name not in known:
        raise Problem(404, "unknown_caller", "this tenant has no such caller")
    admit_denial(may_give(caller.scopes, known[name].scopes, own_tenant=place == caller.tenant))
    revoked = parts.store.revoke_caller(place, name, caller.id, parts.now())
    if revoked is None:
        raise Problem(404, "unknown_caller", "this tenant has no such caller")
    logs.write("caller_revoked", {"caller": revoked.id})
    return _view(revoked)


@router.get(
    "/tenants",
    response_model=TenantList,
    responses=documented(401, 403),
    dependencies=[Depends(allowed(Action.ADMIT_TENANTS))],
    summary="List tenants",
)
def list_tenants(parts: WithParts) -> TenantList:
    """By name."""
    return TenantList(
        tenants=[TenantView(name=each.name, created_at=each.created_at) for each in parts.store.tenants()]
    )


@router.post(
    "/tenants",
    status_code=201,
    response_model=TenantView,
    responses=documented(401, 403, 422, 503, 507),
    dependencies=[Depends(allowed(Action.ADMIT_TENANTS))],
    summary="Add a tenant",
)
def add_tenant(parts: WithParts, wanted: TenantRequest) -> TenantView:
    """One that exists stays as it is."""
    tenant = parts.store.ensure_tenant(wanted.name, parts.now())
    logs.write("tenant_added", {"tenant": tenant.id})
    return TenantView(name=tenant.name, created_at=tenant.created_at)


def _tenant(parts: WithParts, caller: Caller, name: str | None, wanted: frozenset[str]) -> str:
    """The id of the tenant of this name, if `caller` may do something about callers with the scopes `wanted` there."""
    found = None if name is None else parts.store.tenant(name)
    own = name is None or (found is not None and found.id == caller.tenant)
    admit_denial(may_give(caller.scopes, wanted, own_tenant=own))
    if own:
        return caller.tenant
    if found is None:
        raise Problem(404, "unknown_tenant", "there is no tenant of this name")
    return found.id


def _view(record: CallerRecord) -> CallerView:
    return CallerView(
        id=record.id,
        name=record.name,
        scopes=sorted(record.scopes),
        created_at=record.created_at,
        expires_at=record.expires_at,
        revoked_at=record.revoked_at,
    )
