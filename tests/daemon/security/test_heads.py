"""A real server: heads and bodies that are too large or too slow, over a socket."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from daemon.api.edge import Edge
from daemon.clock import monotonic
from daemon.heads import HEAD_BYTES, BoundedHeads
from daemon.metrics import Metrics


class QuickHeads(BoundedHeads):
    head_s = 0.3


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    more = True
    while more:
        message: Message = await receive()
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    edge = Edge(echo, Metrics(), monotonic, 1_000_000, body_s=0.5)
    server = uvicorn.Server(uvicorn.Config(edge, http=QuickHeads, ws="none", log_config=None, lifespan="off"))
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),), daemon=True)
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join(10)
    listener.close()


def talk(address: tuple[str, int], *pieces: bytes) -> bytes:
    """What comes back until the other side closes."""
    with socket.create_connection(address, timeout=8) as line:
        try:
            for each in pieces:
                line.sendall(each)
            told = b""
            while chunk := line.recv(65_536):
                told += chunk
        except ConnectionError:
            return b"reset"
        return told


HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


def test_a_request_is_answered_and_so_is_the_next_on_its_connection(address):
    told = talk(address, HEAD + b"\r\n", HEAD + b"Connection: close\r\n\r\n")
    assert told.count(b"200 OK") == 2


def test_a_head_that_never_ends_is_closed(address):
    before = monotonic()
    assert talk(address, HEAD + b"X-Slow: ") in {b"", b"reset"}
    assert talk(address) in {b"", b"reset"}
    assert monotonic() - before < 5


def test_a_second_head_that_never_ends_is_closed(address):
    assert talk(address, HEAD + b"\r\n", HEAD).count(b"200 OK") == 1


@pytest.mark.parametrize(
    "header", [b"X-Large: " + b"x" * (HEAD_BYTES * 6), b"".join(b"X-%d: y\r\n" % n for n in range(40_000))]
)
def test_a_head_beyond_the_bound_is_refused(address, header: bytes):
    told = talk(address, HEAD, header)
    assert b"431" in told or told == b"reset"
    assert b"200 OK" not in told


def test_many_headers_are_refused_by_a_problem(address):
    headers = b"".join(b"X-%d: y\r\n" % number for number in range(150))
    told = talk(address, HEAD + headers + b"Connection: close\r\n\r\n")
    assert b"431" in told
    assert b"application/problem+json" in told


def test_a_body_that_does_not_come_in_time_is_not_waited_for(address):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
    before = monotonic()
    told = talk(address, head + b"slow")
    assert monotonic() - before < 5
    assert b"200 OK" not in told
    assert b"500" in told or b"408" in told


def test_a_websocket_is_no_way_in(address):
    upgrade = (
        b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b"101" not in talk(address, HEAD + upgrade)[:20]
