"""What answers on the daemon's address until the daemon itself can: probes learn that it lives, and what it waits for.

A threaded server of the standard library on the socket that the real one takes over, so that no connection is refused.
"""

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import ClassVar, Self

from daemon.api.parts import Cause

STARTING = Cause("starting", "this daemon is starting", blocking=True)
POLL_S = 0.05
TIMEOUT_S = 5.0
MOST_READ = 1 << 20
RETRY_S = "5"


class Waiting:
    """In a `with`: answers on `listener` from `start` until `stop`. It alone may accept there meanwhile."""

    def __init__(self, listener: socket.socket) -> None:
        self.cause = STARTING
        self._server = _Server(listener, self)
        self._thread = Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": POLL_S}, name="waiting", daemon=True
        )

    def __enter__(self) -> Self:
        self._server.server_activate()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Accept nothing more; what has come is answered, what comes waits for who listens next. Again is harmless."""
        self._server.shutdown()
        self._thread.join()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a request of `path`. It has started up once it waits for somebody else."""
        if path == "/livez" or (path == "/startupz" and self.cause is not STARTING):
            return 200, "text/plain; charset=utf-8", b"ok\n"
        cause = {"code": self.cause.code, "detail": self.cause.sentence, "blocking": True}
        if path == "/readyz":
            return 503, "application/json", json.dumps({"ready": False, "causes": [cause]}).encode()
        problem = {"status": 503, "title": "Service Unavailable", "code": cause["code"], "detail": cause["detail"]}
        return 503, "application/problem+json", json.dumps(problem).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, waiting: Waiting) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.waiting = listener, waiting
        listener.setblocking(False)  # a connection that is gone again would hold whoever accepts it

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left: the standard library would print a traceback."""


class _Handler(BaseHTTPRequestHandler):
    timeout: ClassVar[float] = TIMEOUT_S
    server: _Server
    server_version, sys_version = "plora", ""

    def do_GET(self) -> None:
        """Any method: what is sent is read, so that the client reads the answer."""
        length = self.headers.get("Content-Length", "")
        if length.isdigit():
            self.rfile.read(min(int(length), MOST_READ))
        status, kind, body = self.server.waiting.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status != 200:
            self.send_header("Retry-After", RETRY_S)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: paths hold users' ids."""
