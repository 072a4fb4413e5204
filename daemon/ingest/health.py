"""/livez, /readyz and /metrics of a consumer, for probes and Prometheus: no token, and nothing of anybody in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from daemon.ingest.figures import Figures
from daemon.ingest.pulse import Stalled


@dataclass(frozen=True, slots=True)
class Cause:
    """Why nothing comes through at the moment."""

    code: str
    detail: str


BROKER_AWAY = Cause("broker_away", "the broker does not answer: see that it runs, and PLORA_INGEST_ADDRESS")
DAEMON_AWAY = Cause("daemon_away", "the daemon takes no events: see that it is ready, and PLORA_URL")
BATCH_FAILS = Cause(
    "batch_fails", "a batch can not be settled: see the log, and whether PLORA_INGEST_DEAD_LETTER exists"
)
NOT_ALLOWED = Cause("not_allowed", "the daemon refuses the token: see PLORA_INGEST_TOKEN_FILE and the caller's scopes")


def causes(*, connected: bool, failing: bool, status: int | None) -> list[Cause]:
    """`failing`: the last batch could not be settled.

    `status` is that of the daemon's last answer; 0 when none came, None while none was asked for.
    """
    found = [] if connected else [BROKER_AWAY]
    found += [BATCH_FAILS] if failing else []
    if status in {401, 403}:
        found.append(NOT_ALLOWED)
    elif status not in {None, 202, 207, 400, 413, 415, 422, 429}:
        found.append(DAEMON_AWAY)
    return found


def app_of(
    stalled: Callable[[], Stalled | None], waits_for: Callable[[], Sequence[Cause]], figures: Figures
) -> Starlette:
    """A web application of three addresses."""

    async def live(_: Request) -> Response:
        found = stalled()
        return PlainTextResponse(f"{found.code}\n", 503) if found else PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        found = waits_for()
        views = [{"code": each.code, "detail": each.detail, "blocking": True} for each in found]
        return JSONResponse({"ready": not found, "causes": views}, 503 if found else 200)

    async def metrics(_: Request) -> Response:
        return Response(figures.expose(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/livez", live), Route("/readyz", ready), Route("/metrics", metrics)])
