"""/livez, /startupz, /readyz and /metrics: for probes and Prometheus, without a token and without a user in them."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client.exposition import choose_encoder

from daemon.api.parts import WithParts
from daemon.api.problems import documented
from daemon.api.schemas import CauseView, Readiness

router = APIRouter(tags=["health"])


@router.get("/livez", response_class=PlainTextResponse, summary="Is the process alive")
async def live() -> str:
    """Depends on nothing but the event loop."""
    return "ok\n"


@router.get("/startupz", response_class=PlainTextResponse, summary="Has the process started")
async def started() -> str:
    """Who answers here has opened the store. Until then another server does: 503, or ok while it waits for a schema."""
    return "ok\n"


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "send no requests here"}},
    summary="Is the daemon ready",
)
def ready(parts: WithParts) -> Response:
    """503 while a blocking cause stands. Without a trainer the daemon is ready: events are kept, adapters wait."""
    causes = parts.causes()
    blocked = any(each.blocking for each in causes)
    views = [CauseView(code=each.code, detail=each.sentence, blocking=each.blocking) for each in causes]
    return JSONResponse(Readiness(ready=not blocked, causes=views).model_dump(), 503 if blocked else 200)


@router.get("/metrics", response_class=PlainTextResponse, responses=documented(503), summary="Prometheus metrics")
def metrics(request: Request, parts: WithParts) -> Response:
    """In Prometheus' text format, or if it is asked for in OpenMetrics, with the traces of slow requests and runs.

    Counts of the database are of now while counting is quick, and of a moment ago where it is not.
    """
    parts.metrics.trainer_up.set(int(parts.trainer_ready()))
    parts.standing.look()
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(parts.metrics.registry), media_type=content_type)
