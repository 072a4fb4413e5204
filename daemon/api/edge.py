"""The outermost layer of every request: size limit, security headers, metrics, and the last catch.

Plain ASGI, outside the framework: whatever happens inside, a client gets a problem and the log a line
without content. Routes are named by their template, since a path holds a user's id.
"""

from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon import logs
from daemon.api import problems
from daemon.api.problems import Problem
from daemon.metrics import Metrics

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; img-src data: https://fastapi.tiangolo.com; "
    "connect-src 'self'; frame-ancestors 'none'"
)
UNMATCHED = "unmatched"
MOST_IN_FLIGHT = 500
RETRY = {"Retry-After": "1"}
METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})


class Edge:
    """Wraps the whole app."""

    def __init__(self, app: ASGIApp, metrics: Metrics, monotonic: Callable[[], float], body_bytes: int) -> None:
        self.app, self.metrics, self.monotonic, self.body_bytes = app, metrics, monotonic, body_bytes
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.in_flight >= MOST_IN_FLIGHT:
            self.metrics.http_requests.labels(_method(scope), UNMATCHED, "503").inc()
            await problems.answer(503, "too_busy", "too many requests at once; send it again", RETRY)(
                scope, receive, send
            )
            return
        self.in_flight += 1
        started, exchange = self.monotonic(), _Exchange(scope, receive, send, self.body_bytes)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            logs.write("client_left", {"route": _route(scope), "method": _method(scope)})
        except Exception as error:  # noqa: BLE001 - around a request; problems.py has answered it
            logs.write_error("request", error, {"route": _route(scope), "method": _method(scope)})
        finally:
            self.in_flight -= 1
            status = exchange.status or HTTPStatus.INTERNAL_SERVER_ERROR
            self.metrics.http_requests.labels(_method(scope), _route(scope), str(int(status))).inc()
            self.metrics.http_duration.labels(_method(scope), _route(scope)).observe(self.monotonic() - started)


class _Exchange:
    """One request's bytes in, counted, and its answer out, with headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self.scope, self._receive, self._send, self.limit = scope, receive, send, limit
        self.read = 0
        self.status: int | None = None

    async def receive(self) -> Message:
        announced = Headers(scope=self.scope).get("content-length", "")
        if announced.isdigit() and int(announced) > self.limit:
            raise self._too_large()
        message = await self._receive()
        self.read += len(message.get("body", b""))
        if self.read > self.limit:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self.scope["path"] == "/docs":
                headers["Content-Security-Policy"] = DOCS_POLICY
        await self._send(message)

    def _too_large(self) -> Problem:
        return Problem(413, "body_too_large", f"a body may take {self.limit} bytes")


def _route(scope: Scope) -> str:
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) else UNMATCHED


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"
