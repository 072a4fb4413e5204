"""Whoever goes away ends the text that is written for them."""

import asyncio
from collections.abc import Iterator

from starlette.requests import Request

from daemon.api.openai_waiting import AT_ONCE, begin, follow, read_whole
from daemon.predict_messages import Piece

LAST = 20


class Writing:
    """Pieces, and how many were asked for."""

    def __init__(self) -> None:
        self.told, self.ended = 0, False

    def pieces(self) -> Iterator[Piece]:
        try:
            for number in range(1, LAST + 1):
                self.told = number
                yield Piece(f"{number} ", "stop" if number == LAST else None)
        finally:
            self.ended = True


def request(writing: Writing, leaves_at: int) -> Request:
    """A request whose client leaves when so many pieces are written."""

    async def receive() -> dict[str, str]:
        if writing.told < leaves_at:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


def test_who_waits_gets_the_whole_text():
    writing = Writing()
    found = asyncio.run(read_whole(request(writing, LAST), writing.pieces()))
    assert "".join(piece.text for piece in found).split() == [str(number) for number in range(1, LAST + 1)]
    assert writing.ended


def test_for_who_has_left_no_more_is_written():
    writing = Writing()
    assert asyncio.run(read_whole(request(writing, 3), writing.pieces())) is None
    assert (writing.told, writing.ended) == (3, True)


def test_a_reader_that_is_cancelled_ends_the_text():
    writing = Writing()

    async def read_some() -> None:
        reader = asyncio.create_task(read_two())
        await asyncio.wait([reader])
        assert reader.cancelled()

    async def read_two() -> None:
        async for _ in follow(writing.pieces()):
            if writing.told == 2:
                asyncio.current_task().cancel()

    asyncio.run(read_some())
    assert writing.ended
    assert writing.told <= 3


def test_texts_that_wait_to_begin_hold_up_none_that_are_read():
    async def read() -> list[Piece]:
        held = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait_long() -> None:
            asyncio.run_coroutine_threadsafe(held.wait(), loop).result()

        waiting = [asyncio.create_task(begin(wait_long)) for _ in range(AT_ONCE + 8)]
        try:
            return [piece async for piece in follow(Writing().pieces())]
        finally:
            held.set()
            await asyncio.gather(*waiting)

    assert len(asyncio.run(read())) == LAST
