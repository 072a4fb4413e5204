"""The pipeline of a replica: one request is worked on while the next is opened and the last one's answer is sealed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Generic, TypeVar

AHEAD = 2
"""Requests open at once, the one at work among them. Those behind them wait as they came, sealed."""

Opened = TypeVar("Opened")
Answered = TypeVar("Answered")


class Pipeline(Generic[Opened, Answered]):
    """Three steps for each request; `act` is the only one that is done for one request at a time, by `worker`."""

    def __init__(
        self,
        receive: Callable[[bytes], Opened],
        act: Callable[[Opened], Answered],
        reply: Callable[[Opened, Answered], bytes],
        worker: Executor,
    ) -> None:
        self._receive, self._act, self._reply = receive, act, reply
        self._worker, self._desk = worker, ThreadPoolExecutor(AHEAD, "desk")
        self._open = asyncio.Semaphore(AHEAD)

    async def work(self, envelope: bytes) -> bytes:
        """The sealed answer to one sealed request. Raises what the steps raise."""
        run = asyncio.get_running_loop().run_in_executor
        async with self._open:
            opened = await run(self._desk, self._receive, envelope)
            answered = await run(self._worker, self._act, opened)
        return await run(self._desk, self._reply, opened, answered)
