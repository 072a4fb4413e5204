"""/v1/chat/completions, /v1/completions, /v1/models for clients of OpenAI's API: `user` says whose adapter speaks."""

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse

from daemon.api.auth import OwnParts, Predicting, charge
from daemon.api.openai_errors import OpenAIRoute, error_body, refused
from daemon.api.openai_schemas import ChatRequest, CompletionRequest, Drawn, Model, Models
from daemon.api.openai_texts import Form, Written, chat_form, text_form
from daemon.api.openai_waiting import begin, follow, read_whole
from daemon.api.parts import Parts
from daemon.api.predictions import unavailable
from daemon.api.problems import Problem
from daemon.events import check_user
from daemon.predict_messages import Piece, Sampling, Turn
from daemon.predictor import GENERIC, NoBasis, Speaking
from daemon.trainer_errors import TrainerError
from storage import BasisState, Caller

router = APIRouter(tags=["openai"], route_class=OpenAIRoute)
CURRENT = "plora"
"""The model that is the tenant's newest Basis."""

TOKENS, SEED_BITS = 256, 63
CLIENT_LEFT = 499
"""The status, of no standard, that metrics have of a request whose client did not wait: nobody reads it."""

USER_HEADER = "X-Plora-User"
WithUser = Annotated[str | None, Header(alias=USER_HEADER, max_length=256, description="whose adapter speaks")]
Prompt = str | tuple[Turn, ...]
REFUSED = refused(400, 401, 403, 404, 409, 422, 429, 503)


@router.post("/v1/chat/completions", response_model=None, responses=REFUSED, summary="Answer a conversation")
async def chat(
    request: Request, parts: OwnParts, caller: Predicting, wanted: ChatRequest, x_plora_user: WithUser = None
) -> Response:
    """As OpenAI's, streaming too. Unknown users are answered by the generic model, and the answer says so."""
    turns = tuple(Turn(each.role, each.text) for each in wanted.messages)
    most = wanted.max_completion_tokens or wanted.max_tokens
    return await _answer(parts, caller, wanted, _Asked(request, turns, most, x_plora_user, chat_form))


@router.post("/v1/completions", response_model=None, responses=REFUSED, summary="Go on from a text")
async def complete(
    request: Request, parts: OwnParts, caller: Predicting, wanted: CompletionRequest, x_plora_user: WithUser = None
) -> Response:
    """As OpenAI's, streaming too."""
    asked = _Asked(request, wanted.prompt, wanted.max_tokens, x_plora_user, text_form)
    return await _answer(parts, caller, wanted, asked)


@router.get("/v1/models", response_model=Models, responses=refused(401, 403), summary="List models")
def models(parts: OwnParts, caller: Predicting) -> Models:
    """`plora` and the name of the tenant's newest Basis, which are the same."""
    basis = parts.store.current_basis(caller.tenant)
    if basis is None:
        return Models(data=[])
    made = int(basis.created_at.timestamp())
    return Models(data=[Model(id=name, created=made) for name in dict.fromkeys((CURRENT, basis.name))])


@dataclass(frozen=True, slots=True)
class _Asked:
    """What differs between the two endpoints, and who waits."""

    request: Request
    prompt: Prompt = field(repr=False)
    most: int | None
    header: str | None = field(repr=False)
    form: Form


async def _answer(parts: Parts, caller: Caller, wanted: Drawn, asked: _Asked) -> Response:
    user = _user(wanted.user, asked.header)
    charge(parts, caller)
    try:
        speaking, pieces = await begin(partial(_begin, parts, caller, wanted, asked, user))
    except NoBasis as error:
        raise Problem(409, "no_basis", str(error)) from error
    except TrainerError as error:
        parts.metrics.predictions.labels("failed").inc()
        raise unavailable(error) from error
    written = Written(asked.form, wanted.model, speaking, parts.now())
    if wanted.stream:
        told = wanted.stream_options is not None and wanted.stream_options.include_usage
        return StreamingResponse(_events(parts, written, pieces, usage=told), media_type="text/event-stream")
    try:
        with _counted(parts, speaking):
            whole = await read_whole(asked.request, pieces)
    except TrainerError as error:
        raise unavailable(error) from error
    if whole is None:
        return Response(status_code=CLIENT_LEFT)
    return Response(written.whole(whole), media_type="application/json")


def _begin(
    parts: Parts, caller: Caller, wanted: Drawn, asked: _Asked, user: str | None
) -> tuple[Speaking, Iterator[Piece]]:
    """Until the first piece is there."""
    basis = parts.store.current_basis(caller.tenant)
    if basis is None or basis.state is not BasisState.READY:
        raise NoBasis(caller.tenant)
    if wanted.model not in (CURRENT, basis.name, basis.fingerprint):
        raise Problem(404, "model_not_found", f"this tenant has no such model: GET /v1/models, or take {CURRENT!r}")
    stop = (wanted.stop,) if isinstance(wanted.stop, str) else tuple(wanted.stop or ())
    sampling = Sampling(
        most_tokens=asked.most or TOKENS,
        temperature=1.0 if wanted.temperature is None else wanted.temperature,
        top_p=1.0 if wanted.top_p is None else wanted.top_p,
        seed=secrets.randbits(SEED_BITS) if wanted.seed is None else wanted.seed,
        stop=stop,
    )
    return parts.predictor.generate(caller.tenant, user, asked.prompt, sampling)


async def _events(parts: Parts, written: Written, pieces: Iterator[Piece], *, usage: bool) -> AsyncIterator[bytes]:
    """Server-sent events; whoever goes away ends the text."""
    try:
        with _counted(parts, written.speaking):
            async with aclosing(follow(pieces)) as following:
                async for piece in following:
                    for document in written.part(piece, usage=usage):
                        yield b"data: " + document + b"\n\n"
    except TrainerError as error:
        yield b"data: " + json.dumps(error_body(503, error.code, str(error))).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


@contextmanager
def _counted(parts: Parts, speaking: Speaking) -> Iterator[None]:
    """Counts a text once it has ended, however that was."""
    kind = "generic" if speaking.version == GENERIC else "personal"
    try:
        yield
    except TrainerError:
        kind = "failed"
        raise
    finally:
        parts.metrics.predictions.labels(kind).inc()


def _user(field: str | None, header: str | None) -> str | None:
    if field is not None and header is not None and field != header:
        raise Problem(400, "two_users", f"the field user and the header {USER_HEADER} name different users: send one")
    user = field if field is not None else header
    return None if user is None else check_user(user)
