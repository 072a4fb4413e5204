"""The outermost layer: too many requests at once, and senders that leave."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from daemon.api.edge import MOST_IN_FLIGHT, Edge
from daemon.clock import monotonic
from daemon.metrics import Metrics

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": []}


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def test_beyond_the_bound_a_request_is_sent_away_and_later_ones_are_served():
    async def story() -> list[int]:
        release, statuses = asyncio.Event(), []

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await release.wait()
            await send({"type": "http.response.start", "status": 202, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        edge = Edge(slow, Metrics(), monotonic, 1_000)
        waiting = [asyncio.create_task(edge(dict(SCOPE), receive, send)) for _ in range(MOST_IN_FLIGHT)]
        await asyncio.sleep(0)
        await edge(dict(SCOPE), receive, send)
        release.set()
        await asyncio.gather(*waiting)
        await edge(dict(SCOPE), receive, send)
        return statuses

    assert asyncio.run(story()) == [503, *[202] * (MOST_IN_FLIGHT + 1)]


def test_a_sender_that_leaves_is_not_an_error_of_ours():
    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    async def send(message: Message) -> None:
        raise AssertionError

    asyncio.run(Edge(left, Metrics(), monotonic, 1_000)(dict(SCOPE), receive, send))
