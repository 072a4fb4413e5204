"""A proxy in front of PostgreSQL that cuts the connection at COMMIT, before or after the server has it."""

import contextlib
import selectors
import socket
import threading
import time
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
DONE = b"COMMIT\x00"


class BreakingProxy:
    """Forwards bytes between clients on a TCP port and the server's socket."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://{parts.username}@127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        self.broken = 0
        self._armed: bool | None = None
        self._for_good = False
        self._closing = False
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "BreakingProxy":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing = True
        self._listener.close()

    def break_at_commit(self, *, delivered: bool, for_good: bool = False) -> None:
        """Cut the connection that commits next: once the server has committed, or before it hears of it."""
        self._armed, self._for_good = delivered, for_good

    def _accept(self) -> None:
        while not self._closing:
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                if self.broken and self._for_good:
                    client.close()
                    continue
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        selector = selectors.DefaultSelector()
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        with client, server, contextlib.suppress(OSError):
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65_536)
                    if not data:
                        return
                    if self._armed is not None and key.fileobj is client and COMMIT in data:
                        delivered, self._armed = self._armed, None
                        self.broken += 1
                        if delivered:
                            server.sendall(data)
                            _await_commit(server)
                        return
                    key.data.sendall(data)


def _await_commit(server: socket.socket) -> None:
    """Until the server has answered the COMMIT; its answer goes nowhere."""
    server.settimeout(5)
    answered = b""
    until = time.monotonic() + 5
    while DONE not in answered and time.monotonic() < until:
        answered += server.recv(65_536)
