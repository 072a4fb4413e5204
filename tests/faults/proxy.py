"""A TCP proxy in front of a server that is ours to cut: then it ends every connection and takes no other."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Carries bytes both ways until it is cut, and again once it is joined."""

    def __init__(self, port: int) -> None:
        self._upstream, self._cut, self._guard = port, threading.Event(), threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()
        with self._guard:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        self._cut.clear()

    def lead_to(self, port: int) -> None:
        """Every connection from now on; those that are open go on."""
        self._upstream = port

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                taken.close()
                continue
            try:
                given = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                taken.close()
                continue
            with self._guard:
                self._open |= {taken, given}
            for source, target in ((taken, given), (given, taken)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._guard:
            self._open -= {source}
        source.close()


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """A proxy in front of `port` of this machine."""
    made = Proxy(port)
    try:
        yield made
    finally:
        made.close()
