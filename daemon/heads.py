"""The first lines of each HTTP request, bounded: how large they may be, and how long they may take.

The server itself bounds neither: a head that grows for ever is kept in memory, and one that never ends keeps its
connection. A connection that has sent no whole head within `HEAD_S` is closed.
"""

import asyncio
from asyncio import TimerHandle

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
HEAD_BYTES = 65_536
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
)
BODY = (
    b'{"type":"about:blank","title":"Request Header Fields Too Large","status":431,'
    b'"code":"headers_too_large","detail":"the head of a request may take %d bytes"}'
) % HEAD_BYTES


class BoundedHeads(HttpToolsProtocol):
    """The server's protocol, which counts what comes before a body."""

    head_s = HEAD_S
    _head_bytes = 0
    _in_head = True
    _timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head and self._timer is None:
            self._wait_for_head()
        super().data_received(data)
        if not self._in_head:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(TOO_LARGE % (len(BODY), BODY))
            self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head = True
        if self._timer is None:
            self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True  # of the next, whose first byte starts the clock; until then the server's own runs
        self._head_bytes = 0

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self.head_s, self._close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if self._in_head and not self.transport.is_closing():
            self.transport.close()
