"""The outermost layer of every request: size limit, security headers, metrics, and the last catch.

Plain ASGI, outside the framework: whatever happens inside, a client gets a problem and the log a line
without content. Routes are named by their template, since a path holds a user's id.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon import logs
from daemon.api import problems
from daemon.api.problems import Problem
from daemon.denials import NOBODY, Denied
from daemon.metrics import Metrics
from daemon.telemetry import Kind, Span, begin, begin_trace, exemplar
from daemon.telemetry_context import HEADER, following, parse

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
UNMATCHED = "unmatched"
TRACED = "/v1/"
PROBES = frozenset({"/livez", "/startupz", "/readyz"})
MOST_IN_FLIGHT = 500
MOST_BYTES_IN_FLIGHT = 32 << 20
MOST_HEADERS, HEADER_BYTES, PATH_BYTES = 100, 32_768, 16_384
BODY_S = 30.0
"""Within which a body must have come."""
FOREIGN = "unknown_"
"""How the codes of a 404 begin that may mean: it is another tenant's."""
RETRY = {"Retry-After": "1"}
CLOSING = {"Connection": "close"}
LEAVING = {"Retry-After": "5", **CLOSING}
DENIED = frozenset({401, 403})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})


class Edge:
    """Wraps the whole app."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        monotonic: Callable[[], float],
        body_bytes: int,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        on_denial: Callable[[Denied], None] = lambda _: None,
        body_s: float = BODY_S,
    ) -> None:
        self.app, self.metrics, self.monotonic, self.body_bytes = app, metrics, monotonic, body_bytes
        self.is_stopping, self.on_denial, self.body_s = is_stopping, on_denial, body_s
        self.in_flight = self.bytes_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if (refusal := self._refusal(scope)) is not None:
            self.metrics.http_requests.labels(_method(scope), UNMATCHED, str(refusal.status_code)).inc()
            await refusal(scope, receive, send)
            return
        self.in_flight += 1
        started, exchange, span = self.monotonic(), _Exchange(scope, receive, send, self), _span(scope)
        try:
            with following(span.trace):
                await self._answer(scope, exchange)
        finally:
            self.in_flight -= 1
            self.bytes_in_flight -= exchange.read
            status = exchange.status or HTTPStatus.INTERNAL_SERVER_ERROR
            route, took_s = (_method(scope), _route(scope)), self.monotonic() - started
            self.metrics.http_requests.labels(*route, str(int(status))).inc()
            shown = exemplar(span.trace) if route[1].startswith(TRACED) else None
            self.metrics.http_duration.labels(*route).observe(took_s, exemplar=shown)
            _end(span, *route, int(status))
        if (denied := _denied(scope, status)) is not None:
            self.metrics.denied.labels(denied.code if status in DENIED else "not_theirs").inc()
            await run_sync(self.on_denial, denied)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            logs.write("client_left", {"route": _route(scope), "method": _method(scope)})
        except Exception as error:  # noqa: BLE001 - around a request; problems.py has answered it
            logs.write_error("request", error, {"route": _route(scope), "method": _method(scope)})

    def _refusal(self, scope: Scope) -> Response | None:
        """Before anything of the request is read. A probe must not fail because much is asked."""
        if scope["path"] in PROBES:
            return None
        if self.is_stopping() and scope["method"] not in READING:
            return problems.answer(503, "stopping", "this daemon is being stopped; send it again", LEAVING)
        if self.in_flight >= MOST_IN_FLIGHT:
            return problems.answer(503, "too_busy", "too many requests at once; send it again", RETRY)
        headers = scope["headers"]
        if len(headers) > MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES:
            detail = f"a request may have {MOST_HEADERS} headers, of {HEADER_BYTES} bytes together"
            return problems.answer(431, "headers_too_large", detail)
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) > PATH_BYTES:
            return problems.answer(414, "path_too_long", f"a path may take {PATH_BYTES} bytes")
        return None


class _Exchange:
    """One request's bytes in, counted, and its answer out, with headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, edge: Edge) -> None:
        self.scope, self._receive, self._send, self._edge = scope, receive, send, edge
        self.read, self._complete, self._until = 0, False, edge.monotonic() + edge.body_s
        self.status: int | None = None

    async def receive(self) -> Message:
        announced = Headers(scope=self.scope).get("content-length", "")
        limit = self._edge.body_bytes
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(limit)
        message = await self._next()
        length = len(message.get("body", b""))
        self.read += length
        self._edge.bytes_in_flight += length
        if self.read > limit:
            raise _too_large(limit)
        if self._edge.bytes_in_flight > MOST_BYTES_IN_FLIGHT:
            raise Problem(503, "too_busy", "too much is being sent at once; send it again", RETRY)
        return message

    async def _next(self) -> Message:
        """The next of the body in time; once it is complete, only the end of the connection can come."""
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - self._edge.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "too_slow", f"a body must come within {self._edge.body_s:g} s", CLOSING) from None
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"a body may take {limit} bytes")


def _route(scope: Scope) -> str:
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) else UNMATCHED


def _span(scope: Scope) -> Span:
    """In the caller's trace, or in a new one."""
    trace = parse(Headers(scope=scope).get(HEADER))
    return begin_trace("request", kind=Kind.SERVER) if trace is None else begin("request", trace, kind=Kind.SERVER)


def _end(span: Span, method: str, route: str, status: int) -> None:
    """By its template: a path holds a user's id. What is asked all the time, by probes, would bury everything else."""
    if route.startswith(TRACED):
        span.name = f"{method} {route}"
        error = str(status) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
        span.end({"method": method, "route": route, "status": status}, error=error)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"


def _denied(scope: Scope, status: int) -> Denied | None:
    """Whose request was denied, when it was."""
    state = scope.get("state", {})
    caller, code = state.get("caller"), str(state.get("code", "scope_missing"))
    if status not in DENIED and not (status == 404 and caller is not None and code.startswith(FOREIGN)):
        return None
    return Denied("", NOBODY, code) if caller is None else Denied(caller.tenant, caller.id, code)
