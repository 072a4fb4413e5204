"""The frames of a text, as it is written: for one who reads in a thread, and for one who reads in an event loop."""

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass

from daemon.batching import QueueFull
from daemon.frames import FrameWriter
from daemon.generating import Heard, Ticket
from daemon.messages import Answer, WorkFailed, encode_answer
from daemon.models import Models
from daemon.predict_messages import GenerateRequest, Piece
from daemon.predicting import generate
from daemon.work import Received


@dataclass(slots=True)
class Opened:
    """A text that was begun, or what was answered instead of it. `first` is that answer."""

    writer: FrameWriter
    first: Answer | None
    ticket: Ticket | None

    def frame(self, told: Answer) -> tuple[bytes, bool]:
        """The next frame, and whether it is the last."""
        last = not isinstance(told, Piece) or told.finish is not None
        return self.writer.frame(encode_answer(told)[0], last=last), last

    def cancel(self) -> None:
        """Nobody reads any more."""
        if self.ticket is not None:
            self.ticket.cancel()


def begin(models: Models, received: Received, heard: Heard) -> Opened:
    """Begin what a request asks for; `heard` is told from another thread. Raises QueueFull."""
    writer = FrameWriter(received.key, received.head)
    request = received.request
    if isinstance(request, WorkFailed):
        return Opened(writer, request, None)
    if not isinstance(request, GenerateRequest):
        return Opened(writer, WorkFailed("TypeError"), None)
    try:
        if received.attachment:
            models.give(received.attachment)
        found = generate(models, request, heard)
    except QueueFull:
        raise
    except Exception as error:  # noqa: BLE001 - around a request: its text may hold content and goes nowhere
        return Opened(writer, WorkFailed(type(error).__name__), None)
    return Opened(writer, None, found) if isinstance(found, Ticket) else Opened(writer, found, None)


def frames_of(models: Models, received: Received) -> Generator[bytes]:
    """For a thread. Raises QueueFull at once; closing the iterator ends the text."""
    told = queue.SimpleQueue[Answer]()
    return _drain(begin(models, received, told.put), told.get)


def _drain(opened: Opened, get: Callable[[], Answer]) -> Generator[bytes]:
    try:
        last = False
        while not last:
            frame, last = opened.frame(opened.first if opened.first is not None else get())
            yield frame
    finally:
        opened.cancel()


async def frames_in_loop(models: Models, received: Received) -> AsyncIterator[bytes]:
    """For an event loop. Raises QueueFull at once; whoever goes away ends the text."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue[Answer]()

    def heard(answer: Answer) -> None:
        loop.call_soon_threadsafe(told.put_nowait, answer)

    opened = await loop.run_in_executor(None, begin, models, received, heard)
    return _read(opened, told)


async def _read(opened: Opened, told: "asyncio.Queue[Answer]") -> AsyncIterator[bytes]:
    try:
        last = False
        while not last:
            frame, last = opened.frame(opened.first if opened.first is not None else await told.get())
            yield frame
    finally:
        opened.cancel()
