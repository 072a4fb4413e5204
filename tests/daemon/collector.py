"""An OpenTelemetry collector on loopback: takes OTLP over HTTP, as protobuf, and keeps every span that came."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Received:
    """One span as it came. `process` is the service.name of who sent it, `instance` its service.instance.id."""

    name: str
    trace: str
    id: str
    parent: str
    process: str
    instance: str
    kind: str
    failed: bool
    facts: dict[str, object] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    took_ns: int = 0


class Collector:
    """What was received. `bodies` are the very bytes: nothing can hide in them."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        self.status = 200
        self.asked = 0
        self.url = ""
        self._changed = threading.Condition()

    def wait_for(self, holds: Callable[[list[Received]], bool], timeout_s: float = 20.0) -> list[Received]:
        """All spans, once `holds` of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.spans), timeout_s), [each.name for each in self.spans]
            return list(self.spans)

    def wait_asked(self, times: int, timeout_s: float = 20.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked >= times, timeout_s), self.asked

    def answer(self, path: str, body: bytes) -> int:
        with self._changed:
            self.asked += 1
            self.paths.add(path)
            if self.status == 200:
                self.bodies.append(body)
                self.spans += read(body)
            self._changed.notify_all()
            return self.status


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector; its `url` is what PLORA_OTLP_ENDPOINT is set to."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            content = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.answer(self.path, plain))
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


def read(body: bytes) -> list[Received]:
    """The spans of one export."""
    request = ExportTraceServiceRequest.FromString(body)
    found = []
    for resource in request.resource_spans:
        about = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            found += [_received(span, about) for span in scope.spans]
    return found


def _received(span: object, about: dict[str, str]) -> Received:
    return Received(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        process=about["service.name"],
        instance=about["service.instance.id"],
        kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        facts={each.key: _plain(each.value) for each in span.attributes},
        links=tuple(each.span_id.hex() for each in span.links),
        took_ns=span.end_time_unix_nano - span.start_time_unix_nano,
    )


def _plain(value: object) -> object:
    return getattr(value, value.WhichOneof("value"))
