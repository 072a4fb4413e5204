"""Who asks, and whether they may: bearer token to Caller to scope. The tenant always comes from the token."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from daemon.api.parts import Parts, WithParts
from daemon.api.problems import Problem
from daemon.limits import Kind
from policies.access import Action, Allow, Deny, may
from storage import Caller

MAX_TOKEN_CHARS = 512
DESCRIPTION = "a token of the daemon (plr_...), or a JWT of the identity provider that it was told of"
BEARER = HTTPBearer(auto_error=False, description=DESCRIPTION)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="plora"'}


async def authenticate(request: Request, parts: WithParts, credentials: Credentials) -> Caller:
    """The Caller whose token was sent. Answers 401 otherwise, and 429 to who or what asks too much."""
    if credentials is None:
        raise _unknown(parts, request, "no_token", "send the header Authorization: Bearer and a token")
    caller = await run_sync(_caller, parts, credentials.credentials)
    if caller is None:
        raise _unknown(parts, request, "wrong_token", "this token is not known, or not any more")
    request.state.caller = caller
    charge(parts, caller)
    return caller


WithCaller = Annotated[Caller, Depends(authenticate)]


def charge(parts: Parts, caller: Caller, cost: float = 1.0) -> None:
    """Take from what the caller's tenant may ask. Answers 429 when too little is left."""
    wait_s = parts.admission.wait_s(Kind.TENANT, caller.tenant, cost=cost)
    if wait_s:
        raise too_many(wait_s, "tenant")


def too_many(wait_s: int, who: str) -> Problem:
    """A refusal that says when to come again."""
    return Problem(
        429, "rate_limited", f"this {who} asks too much; come again in {wait_s} s", {"Retry-After": str(wait_s)}
    )


def admit_denial(decision: Allow | Deny) -> None:
    """Answer 403 when it is a denial."""
    if isinstance(decision, Deny):
        raise Problem(403, decision.code, decision.reason)


def allow(caller: Caller, action: Action) -> None:
    """Answer 403 unless `caller` holds a scope for `action`."""
    admit_denial(may(caller.scopes, action))


def allowed(action: Action) -> Callable[[Caller], Coroutine[Any, Any, Caller]]:
    """A dependency: the Caller, who may do `action`."""

    async def admit(caller: WithCaller) -> Caller:
        allow(caller, action)
        return caller

    return admit


def own_parts(parts: WithParts, caller: WithCaller) -> Parts:
    """The Parts with a Store that sees nothing but the caller's tenant."""
    return replace(parts, store=parts.store.within(caller.tenant))


OwnParts = Annotated[Parts, Depends(own_parts)]
Reader = Annotated[Caller, Depends(allowed(Action.READ))]
Exporting = Annotated[Caller, Depends(allowed(Action.EXPORT))]
Predicting = Annotated[Caller, Depends(allowed(Action.PREDICT))]
Rolling = Annotated[Caller, Depends(allowed(Action.ROLL_BACK))]
Forgetting = Annotated[Caller, Depends(allowed(Action.FORGET))]
BasisTraining = Annotated[Caller, Depends(allowed(Action.TRAIN_BASIS))]
Operating = Annotated[Caller, Depends(allowed(Action.OPERATE))]
Rotating = Annotated[Caller, Depends(allowed(Action.ROTATE))]
Steerer = Annotated[Caller, Depends(allowed(Action.STEER))]
Recording = Annotated[Caller, Depends(allowed(Action.RECORD))]


def _caller(parts: Parts, token: str) -> Caller | None:
    if parts.verifier is not None and token.count(".") == 2:
        return parts.verifier.caller(token)
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        return None
    return parts.store.caller(token, parts.now())


def _unknown(parts: Parts, request: Request, code: str, detail: str) -> Problem:
    """401, or 429 to an address that sends nothing but wrong tokens. A right token is never counted."""
    source = request.client.host if request.client else ""
    wait_s = parts.admission.wait_s(Kind.SOURCE, source)
    return too_many(wait_s, "address") if wait_s else Problem(401, code, detail, CHALLENGE)
