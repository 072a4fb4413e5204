"""Waiting for texts: in threads of their own, so that no other request waits for them; whoever leaves ends theirs."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, closing
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from fastapi import Request

from daemon.predict_messages import Piece

AT_ONCE = 64
"""Threads that wait for a first piece, which may be long in coming, and as many that wait for the next ones."""

Result = TypeVar("Result")
Limit = RunVar[CapacityLimiter]
_first, _next = Limit("texts to begin"), Limit("texts to follow")


async def begin(work: Callable[[], Result]) -> Result:
    """What `work` comes to, which waits for the first piece of a text."""
    return await run_sync(work, limiter=_limiter(_first))


async def follow(pieces: Iterator[Piece]) -> AsyncGenerator[Piece]:
    """Each piece as it comes. Close it, or be cancelled, to end the text."""
    with closing(pieces) as following:  # type: ignore[type-var]  # an iterator of pieces is a generator
        while (piece := await run_sync(partial(next, following, None), limiter=_limiter(_next))) is not None:
            yield piece


async def read_whole(request: Request, pieces: Iterator[Piece]) -> list[Piece] | None:
    """All pieces of a text; None, and the text is ended, once nobody waits for it any more."""
    found = []
    async with aclosing(follow(pieces)) as following:
        async for piece in following:
            found.append(piece)
            if piece.finish is None and await request.is_disconnected():
                return None
    return found


def _limiter(limit: Limit) -> CapacityLimiter:
    """That of the running event loop."""
    try:
        return limit.get()
    except LookupError:
        made = CapacityLimiter(AT_ONCE)
        limit.set(made)
        return made
