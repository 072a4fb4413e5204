"""Who asks, and whether they may: bearer token to Caller to scope. The tenant always comes from the token."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from daemon.api.parts import WithParts
from daemon.api.problems import Problem
from policies.access import Action, Deny, may
from storage import Caller

MAX_TOKEN_CHARS = 512
BEARER = HTTPBearer(auto_error=False, description="a token from the key ring: host.token or operator.token")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="plora"'}


async def authenticate(parts: WithParts, credentials: Credentials) -> Caller:
    """The Caller whose token was sent. Answers 401 otherwise."""
    if credentials is None:
        raise Problem(401, "no_token", "send the header Authorization: Bearer and a token", CHALLENGE)
    token = credentials.credentials
    caller = None
    if len(token) <= MAX_TOKEN_CHARS and token.isascii():
        caller = await run_sync(parts.store.caller, token, parts.now())
    if caller is None:
        raise Problem(401, "wrong_token", "this token is not known; see the key directory of the daemon", CHALLENGE)
    return caller


WithCaller = Annotated[Caller, Depends(authenticate)]


def allow(caller: Caller, action: Action) -> None:
    """Answer 403 unless `caller` holds a scope for `action`."""
    decision = may(caller.scopes, action)
    if isinstance(decision, Deny):
        raise Problem(403, decision.code, decision.reason)


def allowed(action: Action) -> Callable[[Caller], Coroutine[Any, Any, Caller]]:
    """A dependency: the Caller, who may do `action`."""

    async def admit(caller: WithCaller) -> Caller:
        allow(caller, action)
        return caller

    return admit


Reader = Annotated[Caller, Depends(allowed(Action.READ))]
Predicting = Annotated[Caller, Depends(allowed(Action.PREDICT))]
Rolling = Annotated[Caller, Depends(allowed(Action.ROLL_BACK))]
Forgetting = Annotated[Caller, Depends(allowed(Action.FORGET))]
BasisTraining = Annotated[Caller, Depends(allowed(Action.TRAIN_BASIS))]
Operating = Annotated[Caller, Depends(allowed(Action.OPERATE))]
Recording = Annotated[Caller, Depends(allowed(Action.RECORD))]
