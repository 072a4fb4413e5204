"""POST /v1/events: the CloudEvents sink, and the web-hook handshake."""

from collections.abc import Sequence

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from daemon.api.auth import OwnParts, charge, too_many
from daemon.api.auth import Recording as RecordingCaller
from daemon.api.parts import Parts
from daemon.api.problems import Problem, answer, documented
from daemon.api.schemas import BatchOutcome, EventOutcome
from daemon.errors import EventRefused, ForbiddenEvent, TooManyEvents
from daemon.events import BATCH, STRUCTURED, Bounds, EventType, Message, body_limit, is_batch, read
from daemon.limits import Kind
from daemon.outcomes import Outcomes
from daemon.recording import Outcome, Parsed, Recording
from daemon.switches import INGEST
from policies.access import Action, Deny, may
from storage import Caller

router = APIRouter(tags=["events"])
PAUSED = {"Retry-After": "30"}

_EVENT = {
    "specversion": "1.0",
    "type": "plora.example.v1",
    "source": "/shops/1",
    "id": "order-17-rating",
    "subject": "user-42",
    "data": {"text": "The tea was cold, the cake was not.", "label": "3"},
}
_EVENT_SCHEMA = {
    "type": "object",
    "required": ["specversion", "type", "source", "id"],
    "properties": {
        "specversion": {"const": "1.0"},
        "type": {"enum": [each.value for each in EventType]},
        "source": {"type": "string", "description": "with `id` the identity of the event: a retry is harmless"},
        "id": {"type": "string"},
        "subject": {
            "type": "string",
            "maxLength": 256,
            "description": "the host's id of the user; of an outcome not read",
        },
        "time": {"type": "string", "format": "date-time"},
        "data": {
            "type": "object",
            "description": "text and label for an example or a correction, granted for a consent, "
            "nothing for a forget, answer and value for an outcome",
            "properties": {
                "text": {"type": "string"},
                "label": {"type": "string"},
                "granted": {"type": "boolean"},
                "answer": {"type": "string"},
                "value": {"type": "number", "minimum": 0, "maximum": 1},
            },
        },
    },
    "example": _EVENT,
}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "Binary mode is read too: attributes in `ce-` headers, data as application/json.",
        "content": {
            STRUCTURED: {"schema": _EVENT_SCHEMA},
            BATCH: {"schema": {"type": "array", "items": _EVENT_SCHEMA}},
            "application/json": {"schema": {"type": "object", "example": _EVENT["data"]}},
        },
    }
}


@router.post(
    "/v1/events",
    status_code=202,
    response_model=EventOutcome | BatchOutcome,
    responses=documented(
        *(400, 401, 403, 409, 413, 415, 422, 503, 507),
        own={207: {"model": BatchOutcome, "description": "a batch of which some events were not accepted"}},
    ),
    openapi_extra=_BODY,
    summary="Record CloudEvents",
)
async def record_events(request: Request, parts: OwnParts, caller: RecordingCaller) -> Response:
    """202 means that the event is durable; the same event again is answered `duplicate`."""
    if parts.steering.switches.paused(INGEST):
        raise Problem(503, "ingest_paused", "an operator has paused ingest; send it again later", PAUSED)
    content_type = request.headers.get("content-type", "")
    body = await _read_body(request, body_limit(content_type, _bounds(parts)))
    outcomes = await run_sync(_record, parts, caller, request.headers.items(), body)
    return _answer_batch(outcomes) if is_batch(content_type) else _answer_one(outcomes[0])


@router.options(
    "/v1/events",
    response_class=Response,
    responses={200: {"description": "the handshake"}},
    summary="CloudEvents web-hook handshake",
)
async def shake_hands(request: Request) -> Response:
    """Allow the asking origin to send as fast as it likes; its events still need a token."""
    headers = {"Allow": "POST, OPTIONS"}
    origin = request.headers.get("webhook-request-origin")
    if origin is not None:
        if len(origin) > 256 or not origin.isascii() or not origin.isprintable():
            raise Problem(400, "wrong_origin", "WebHook-Request-Origin must be a host name")
        headers |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
    return Response(status_code=200, headers=headers)


def _bounds(parts: Parts) -> Bounds:
    settings = parts.settings
    return Bounds(settings.max_event_bytes, settings.max_batch_bytes, settings.max_batch_events)


async def _read_body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Problem(413, "event_too_large", f"a body of this kind may take {limit} bytes")
    return bytes(body)


def _record(parts: Parts, caller: Caller, headers: Sequence[tuple[str, str]], body: bytes) -> list[Outcome]:
    """Everything between the last byte of the request and the commit, in one thread."""
    try:
        parsed = read(headers, body, _bounds(parts))
    except EventRefused:
        parts.metrics.events.labels("rejected", "unknown").inc()
        raise
    charge(parts, caller, len(parsed) - 1)
    recording = recording_of(parts, caller)
    acceptable = _within_rates(parts, _without_forbidden(parsed, caller), caller)
    outcomes = recording.record(acceptable, parts.now())
    _follow_up(parts, parsed, outcomes)
    return outcomes


def recording_of(parts: Parts, caller: Caller) -> Recording:
    """How events of this caller are recorded."""
    return Recording(
        store=parts.store,
        tenant=caller.tenant,
        actor=caller.id,
        labels=lambda: parts.labels.of(caller.tenant),
        default_consent=parts.settings.default_consent,
        outcomes=Outcomes(parts.store, parts.answering.tokens),
    )


def _without_forbidden(parsed: Sequence[Parsed], caller: Caller) -> list[Parsed]:
    """To forget needs its own scope, however it is asked for."""
    decision = may(caller.scopes, Action.FORGET)
    if not isinstance(decision, Deny):
        return list(parsed)
    refused = ForbiddenEvent(decision.code, decision.reason)
    return [refused if isinstance(each, Message) and each.type is EventType.FORGET else each for each in parsed]


def _within_rates(parts: Parts, parsed: Sequence[Parsed], caller: Caller) -> list[Parsed]:
    """A user of whom too much comes does not keep those of others out. To forget is always let in.

    An outcome names no user.
    """
    checked: list[Parsed] = []
    for each in parsed:
        if not isinstance(each, Message) or each.type in {EventType.FORGET, EventType.OUTCOME}:
            checked.append(each)
            continue
        wait_s = parts.admission.wait_s(Kind.USER, caller.tenant, each.user)
        if wait_s and len(parsed) == 1:
            raise too_many(wait_s, "user")
        checked.append(TooManyEvents("rate_limited", f"too much of this user; again in {wait_s} s") if wait_s else each)
    return checked


def _follow_up(parts: Parts, parsed: Sequence[Parsed], outcomes: Sequence[Outcome]) -> None:
    for each, outcome in zip(parsed, outcomes, strict=True):
        kind = each.type.name.lower() if isinstance(each, Message) else "unknown"
        parts.metrics.events.labels(outcome.outcome, kind).inc()
        if outcome.user is not None:
            parts.considering.add(outcome.user)


def _answer_one(outcome: Outcome) -> Response:
    if not outcome.accepted:
        return answer(outcome.status, outcome.code or outcome.outcome, outcome.sentence or "")
    return JSONResponse(_view(outcome).model_dump(exclude_none=True), outcome.status)


def _answer_batch(outcomes: Sequence[Outcome]) -> Response:
    status = 202 if all(each.accepted for each in outcomes) else 207
    views = BatchOutcome(outcomes=[_view(each) for each in outcomes])
    return JSONResponse(views.model_dump(exclude_none=True), status)


def _view(outcome: Outcome) -> EventOutcome:
    return EventOutcome(status=outcome.status, outcome=outcome.outcome, code=outcome.code, detail=outcome.sentence)
