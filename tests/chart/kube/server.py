"""The fake Kubernetes API on loopback: what Helm's install, upgrade, rollback and uninstall ask of one."""

import contextlib
import gzip
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.chart.kube.cluster import Cluster, Key
from tests.chart.kube.kinds import Kind
from tests.chart.kube.rules import Manifest, Refused
from tests.chart.kube.wire import decode

LONGEST_WATCH_S = 30


@contextlib.contextmanager
def serving(cluster: Cluster) -> Iterator[str]:
    """The URL under which `cluster` answers while the block runs."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.cluster = cluster
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.is_closing = True
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(url: str, namespace: str) -> str:
    """The text with which a client finds `url`."""
    found = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": url}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": namespace}}],
    }
    return yaml.safe_dump(found)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the usual 5 a connection is now and then dropped, and tried again for a minute
    block_on_close = False
    cluster: Cluster
    is_closing = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # without it a render takes .8 s

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test reads `Cluster.writes`."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        raw = self._body()
        try:
            self._dispatch([step for step in url.path.split("/") if step], query, raw)
        except Refused as refused:
            failure = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
            self._send(
                refused.code, failure | {"reason": refused.reason, "message": refused.text, "code": refused.code}
            )

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  (names that the base class looks for)

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        return gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw

    def _send(self, code: int, body: object, content_type: str = "application/json") -> None:
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        self.wfile.flush()

    def _dispatch(self, path: list[str], query: dict[str, str], raw: bytes) -> None:
        document = self._document(path)
        if document is not None:
            return self._send(200, document)
        if path[0] not in ("api", "apis") or len(path) < 3:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        group_version, rest = ("v1", path[2:]) if path[0] == "api" else ("/".join(path[1:3]), path[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) >= 3:
            namespace, rest = rest[1], rest[2:]
        kind = self.server.cluster.catalogue.find(group_version, rest[0])
        if kind is None:
            raise Refused(404, "NotFound", f"no resource {group_version}/{rest[0]}")
        if rest[2:] == ["log"]:
            return self._send(200, "", "text/plain")
        key = Key(group_version, rest[0], namespace, rest[1] if len(rest) > 1 else "")
        if self.command == "GET" and query.get("watch") in ("1", "true"):
            return self._watch(key, query)
        with self.server.cluster.lock:
            code, answer = self._act(key, kind, query, raw)
        return self._send(code, answer)

    def _document(self, path: list[str]) -> object | None:
        catalogue = self.server.cluster.catalogue
        fixed = {
            ("version",): self.server.cluster.version,
            ("api",): {"kind": "APIVersions", "versions": ["v1"]},
            ("apis",): catalogue.groups(),
            ("openapi", "v3"): catalogue.openapi_index(),
        }
        if path[:2] == ["openapi", "v3"] and len(path) > 2:
            return catalogue.openapi("/".join(path[3:]))
        if path == ["api", "v1"] or (path[:1] == ["apis"] and len(path) == 3):
            return catalogue.resources("/".join(path[1:]))
        return fixed.get(tuple(path))

    def _act(self, key: Key, kind: Kind, query: dict[str, str], raw: bytes) -> tuple[int, Manifest]:
        cluster, sent = self.server.cluster, self.headers.get("content-type") or ""
        if self.command == "GET":
            return 200, cluster.get(key) if key.name else self._list(key, kind, query)
        if self.command == "DELETE":
            cluster.delete(key)
            details = {"name": key.name, "kind": key.plural}
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details}
        body = json.loads(raw) if "patch" in sent else decode(raw, sent)
        if self.command == "POST":
            return 201, cluster.create(key._replace(name=body["metadata"]["name"]), kind, body)
        if self.command == "PATCH" and "apply-patch" not in sent:
            return 200, cluster.patch(key, kind, body, strategic="strategic" in sent)
        code = 200 if cluster.has(key) else 201
        return code, cluster.put(key, kind, body)

    def _list(self, key: Key, kind: Kind, query: dict[str, str]) -> Manifest:
        cluster = self.server.cluster
        meta = {"resourceVersion": cluster.revision}
        items = list(cluster.select(key, query))
        return {"kind": f"{kind.name}List", "apiVersion": key.group_version, "metadata": meta, "items": items}

    def _watch(self, key: Key, query: dict[str, str]) -> None:
        cluster = self.server.cluster
        with cluster.lock:
            watcher = cluster.watch(key, query)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        ends = time.monotonic() + min(int(query.get("timeoutSeconds", LONGEST_WATCH_S)), LONGEST_WATCH_S)
        try:
            while time.monotonic() < ends and not self.server.is_closing:
                with contextlib.suppress(queue.Empty):
                    self._chunk(json.dumps(watcher.events.get(timeout=0.2)).encode() + b"\n")
            self._chunk(b"")
        except OSError:
            self.close_connection = True
        finally:
            with cluster.lock:
                cluster.unwatch(watcher)

    def _chunk(self, raw: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        self.wfile.flush()
