"""The outermost layer: too many requests at once, and senders that leave."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from daemon.api.edge import MOST_BYTES_IN_FLIGHT, MOST_IN_FLIGHT, Edge
from daemon.api.problems import Problem
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


def test_what_is_stopped_answers_questions_and_takes_nothing_new():
    async def story() -> list[tuple[str, int]]:
        statuses = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        edge = Edge(app, Metrics(), monotonic, 1_000, is_stopping=lambda: True)
        for method in ("GET", "POST", "DELETE"):

            async def send(message: Message, method: str = method) -> None:
                if message["type"] == "http.response.start":
                    headers = dict(message["headers"])
                    statuses.append((method, message["status"], b"retry-after" in headers))

            await edge(SCOPE | {"method": method}, receive, send)
        return statuses

    assert asyncio.run(story()) == [("GET", 200, False), ("POST", 503, True), ("DELETE", 503, True)]


def test_bodies_that_wait_together_take_bounded_memory():
    size = 1 << 20

    async def story() -> list[int]:
        release, statuses = asyncio.Event(), []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await receive()
            except Problem as problem:
                statuses.append(problem.status_code)
                raise
            await release.wait()

        async def large() -> Message:
            return {"type": "http.request", "body": bytes(size), "more_body": False}

        async def send(message: Message) -> None:
            pass

        edge = Edge(app, Metrics(), monotonic, size)
        waiting = [asyncio.create_task(edge(dict(SCOPE), large, send)) for _ in range(MOST_BYTES_IN_FLIGHT // size + 3)]
        for _ in range(10):
            await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*waiting)
        assert (edge.in_flight, edge.bytes_in_flight) == (0, 0)
        return statuses

    assert asyncio.run(story()) == [503, 503, 503]
