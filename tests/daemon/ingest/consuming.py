"""What the children of these tests run: a consumer's whole life."""

from collections.abc import Mapping

from daemon.ingest.process import consume as consume_for_ever
from daemon.settings import load
from tests.faults import failpoints

MODULES = (
    "httpx",
    "starlette.applications",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "daemon.ingest.process",
    "daemon.ingest.kafka",
    "daemon.ingest.nats",
    "daemon.ingest.redis",
    "tests.daemon.ingest.consuming",
)


def consume(environ: Mapping[str, str], points: Mapping[str, tuple[str, int]]) -> int:
    """A consumer until it is killed, or told to end."""
    failpoints.arm({name: tuple(action) for name, action in points.items()})
    return consume_for_ever(load(dict(environ)))
