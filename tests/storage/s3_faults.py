"""A proxy in front of an S3-speaking server that does to requests what networks and busy servers do, by a script."""

import http.client
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("409", "412", "503", "slow", "cut_request", "lost_answer", "cut_answer", "twice")
REFUSALS = {"409": "ConditionalRequestConflict", "412": "PreconditionFailed", "503": "SlowDown", "403": "AccessDenied"}
FORWARDED = {"content-length", "transfer-encoding", "connection", "expect"}


@dataclass
class Script:
    """The faults that the next requests of `method` meet, one each; then all goes well. `seen` is what came."""

    faults: list[str] = field(default_factory=list)
    method: str = "PUT"
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str) -> str:
        with self.lock:
            self.seen.append(method)
            return self.faults.pop(0) if self.faults and method == self.method else "none"

    def be(self, faults: Sequence[str], method: str = "PUT") -> None:
        with self.lock:
            self.faults, self.method, self.seen = list(faults), method, []


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: "Proxy"

    def handle_any(self) -> None:
        fault = self.server.script.next(self.command)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length // 2 if fault == "cut_request" else length)
        if fault in REFUSALS:
            self._refuse(int(fault), REFUSALS[fault])
            return
        if fault == "cut_request":
            self._hang_up()
            return
        answer = self._forward(body[: length // 2] if fault == "half" else body)
        if fault == "twice":
            answer = self._forward(body)
        if fault == "slow":
            self.server.stopped.wait(self.server.slow_s)
        if fault in {"lost_answer", "slow"}:
            self._hang_up()
            return
        self._send(*answer, cut=fault == "cut_answer")

    do_PUT = do_GET = do_HEAD = do_DELETE = do_POST = handle_any  # noqa: N815 - the base class's names

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=20)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in FORWARDED}
        upstream.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
        answer = upstream.getresponse()
        found = answer.status, answer.getheaders(), answer.read()
        upstream.close()
        return found

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
        self.send_response(status)
        told = {name.lower(): value for name, value in headers}
        for name, value in told.items():
            if name not in FORWARDED | {"date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", told.get("content-length", str(len(body))))
        if not cut:
            self.end_headers()
            self.wfile.write(body)
            return
        if body:  # cut in the body, else in the headers
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
        else:
            self._headers_buffer = self._headers_buffer[:1]
            self.flush_headers()
        self._hang_up()

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
        self._send(status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else body)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Proxy(ThreadingHTTPServer):
    """Stands between the port `upstream` of this machine and whoever connects to `url`."""

    daemon_threads = True

    def __init__(self, upstream: int, slow_s: float = 2.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.slow_s, self.script, self.stopped = upstream, slow_s, Script(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()
