"""The HTTP side of the daemon as one ASGI app."""

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp

from daemon import logs
from daemon.api import (
    bases,
    callers,
    changes,
    corrections,
    deadletters,
    erasures,
    events,
    health,
    openai,
    operations,
    predictions,
    problems,
    rollouts,
    routes,
    steering,
    users,
)
from daemon.api.edge import Edge
from daemon.api.parts import Parts
from daemon.version import release
from storage import (
    BlobsAway,
    BlobsRefused,
    CommitUnknown,
    DiskFull,
    KeysAway,
    KeysDenied,
    StorageError,
    StoreAway,
    StoreBusy,
    UnknownBasis,
    UnknownUser,
    UnknownVersion,
    Unreadable,
)

RETRY_S = "5"
DESCRIPTION = """Tiny adapters for the users of one frozen language model. Hosts send CloudEvents and fetch adapters
or ask for predictions; operators train bases, roll back, forget and rotate keys. Every refusal is problem+json."""

# What a caller can do about each error of the store; anything else of it is a failure of ours.
ROUTERS = (
    events,
    users,
    changes,
    predictions,
    corrections,
    openai,
    rollouts,
    bases,
    callers,
    operations,
    steering,
    deadletters,
    erasures,
    health,
)
REFUSALS: dict[type[StorageError], tuple[int, str, str]] = {
    DiskFull: (507, "storage_full", "there is no room to store this; nothing was written, send it again later"),
    KeysAway: (503, "keys_away", "the key provider does not answer; send it again later"),
    KeysDenied: (503, "keys_denied", "the key provider refuses; the operator has to look at it"),
    BlobsAway: (503, "blobs_away", "the place of the bases does not answer; send it again later"),
    BlobsRefused: (503, "blobs_refused", "the place of the bases refuses this daemon; operators must see to it"),
    StoreAway: (503, "storage_away", "the database does not answer; nothing was written, send it again later"),
    CommitUnknown: (503, "storage_unknown", "nobody knows whether this was stored; send the same again, it is safe"),
    StoreBusy: (503, "storage_busy", "the store is busy; nothing was written, send it again later"),
    UnknownUser: (404, "unknown_user", "this tenant has no such user"),
    UnknownVersion: (404, "unknown_version", "this user has no such version to serve; their state lists the versions"),
    UnknownBasis: (404, "unknown_basis", "this tenant has no such basis"),
    Unreadable: (500, "unreadable_object", "what is stored does not open; operators find more in the audit log"),
}


NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "operation_spans": False,
    "logs": False,  # they hold the texts of errors
    "auto_configure": False,
}
"""The framework's own, which sees whatever is sent; Edge records what may be told."""


def create_app(parts: Parts, monotonic: Callable[[], float]) -> ASGIApp:
    """The app over `parts`. Nothing starts or connects here."""
    app = FastAPI(
        title="plora",
        version=release(),
        description=DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,  # a sink never answers 3xx
        docs_url=None,
        telemetry=NO_TELEMETRY,
        responses=problems.documented(400, 408, 413, 414, 429, 431, 500, 503),
    )
    app.state.parts = parts
    for each in ROUTERS:
        app.include_router(each.router)
    problems.install(app)
    app.add_exception_handler(StorageError, _answer_storage)
    _document_problems(app)
    app.include_router(routes.router_of(app.openapi))
    return Edge(
        app,
        parts.metrics,
        monotonic,
        parts.settings.max_batch_bytes,
        is_stopping=parts.stopping.is_set,
        on_denial=parts.denials.add,
    )


async def _answer_storage(request: Request, error: Exception) -> Response:
    for kind, (status, code, detail) in REFUSALS.items():
        if isinstance(error, kind):
            request.state.code = code
            request.app.state.parts.metrics.storage_errors.labels(type(error).__name__).inc()
            logs.write("refused_by_store", {"error": type(error).__name__, "status": status})
            return problems.answer(status, code, detail, {"Retry-After": RETRY_S} if status in {503, 507} else None)
    logs.write_error("store", error)
    return problems.answer(503, "storage_failed", "the store failed; its log says where", {"Retry-After": RETRY_S})


def _document_problems(app: FastAPI) -> None:
    """Put ProblemDetails among the schemas, and say problem+json where the framework would say its own errors."""
    generate = app.openapi

    def openapi() -> dict[str, object]:
        document = generate()
        schemas = document["components"]["schemas"]
        schemas["ProblemDetails"] = problems.ProblemDetails.model_json_schema()
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        for path in document["paths"].values():
            for operation in path.values():
                found = operation["responses"].get("422", {}).get("content", {})
                schema = found.get("application/json", {}).get("schema", {})
                if str(schema.get("$ref", "")).endswith("HTTPValidationError"):
                    operation["responses"]["422"] = problems.documented(422)[422]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
