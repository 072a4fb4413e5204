"""`python -m daemon ingest`: one consumer from its first connection to a clean end.

Theory of the end. At SIGTERM nothing more is taken; the batch at work is given `DRAIN_S` to be settled by the answer it
waits for, and is given back where the daemon does not take it. Whatever is not acknowledged then comes again.
"""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterable
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from daemon import logs
from daemon.clock import monotonic
from daemon.errors import DaemonError
from daemon.events import Bounds
from daemon.heads import BoundedHeads
from daemon.ingest.answers import Settled
from daemon.ingest.brokers import BrokerAway, GroupGone, Intake, PlaceMissing, intake_of
from daemon.ingest.choices import IngestChoices
from daemon.ingest.consumer import Consumer
from daemon.ingest.delivery import Delivery, Door
from daemon.ingest.figures import Figures
from daemon.ingest.health import app_of, causes
from daemon.ingest.letters import BINDINGS
from daemon.ingest.pulse import Pulse, judge
from daemon.settings import InvalidSetting, Settings

TOKEN = "host.token"  # noqa: S105 - the name of a file
DRAIN_S = 10.0
ASK_S = 5.0
BEGIN_S = 60.0
FIRST_BETWEEN_S = 1.0
MOST_BETWEEN_S = 30.0


class IngestPortTaken(DaemonError):
    """Something else listens where the consumer should be asked."""

    def __init__(self, host: str, port: int, problem: str) -> None:
        super().__init__(host, port, problem)
        self.host, self.port, self.problem = host, port, problem

    def __str__(self) -> str:
        return f"cannot listen on {self.host}:{self.port} ({self.problem}): set PLORA_INGEST_PORT"


def consume(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Raises InvalidSetting without a broker, and IngestPortTaken."""
    if settings.ingest.broker == "none":
        raise InvalidSetting("PLORA_INGEST_BROKER", "kafka, nats or redis to take events from one")
    logs.configure(settings.log_format)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the token and content
    asyncio.run(Ingest(settings).run())
    logs.write("stopped")
    return 0


class Ingest:
    """Wires the parts of one consumer."""

    def __init__(self, settings: Settings) -> None:
        choices = settings.ingest
        self._choices = choices
        self._stopping = asyncio.Event()
        self._figures, self._pulse = Figures(choices.broker), Pulse(monotonic())
        self._status: int | None = None
        self._intake: Intake | None = None
        self._door = Door(settings.base_url, choices.token_file or settings.keys_path / TOKEN)
        bounds = Bounds(settings.max_event_bytes, settings.max_batch_bytes, settings.max_batch_events)
        self._consumer = Consumer(
            Delivery(self._door, bounds, self._stopping, self._attempted),
            BINDINGS[choices.broker],
            self._settled,
            event_bytes=settings.max_event_bytes,
            keep_every_s=choices.redeliver_s / 3,
        )

    async def run(self) -> None:
        """Until told to stop. Raises PortTaken."""
        listener = _listen(self._choices)
        server = _Server(self._app(), self._stopping)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        watching = asyncio.create_task(self._watch())
        try:
            await self._consume()
        finally:
            watching.cancel()
            await self._end()
            server.should_exit = True
            await serving
            listener.close()

    async def _consume(self) -> None:
        """Connect, however long it takes, and let it run."""
        wait_s = FIRST_BETWEEN_S
        while not self._stopping.is_set():
            intake = intake_of(self._choices)
            try:
                await self._begin(intake)
            except (BrokerAway, PlaceMissing) as away:
                logs.write_error("ingest_away", away, {"wait_s": wait_s})
                await _close(intake)
            else:
                self._intake = intake
                logs.write("ingest_started", {"kind": self._choices.broker})
                await self._stopping.wait()
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            wait_s = min(MOST_BETWEEN_S, wait_s * 2)

    async def _begin(self, intake: Intake) -> None:
        """Connect, or hear before that to end. Raises BrokerAway or PlaceMissing."""
        beginning = asyncio.create_task(intake.start(self._consumer.take))
        ending = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((beginning, ending), timeout=BEGIN_S, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if beginning.done():
            beginning.result()
            return
        beginning.cancel()
        with contextlib.suppress(asyncio.CancelledError, BrokerAway):
            await beginning
        if not self._stopping.is_set():
            raise BrokerAway(self._choices.broker, self._choices.address, "no answer")

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._consumer.idle(), DRAIN_S)
        if self._intake is not None:
            await _close(self._intake)
        await self._door.close()

    async def _watch(self) -> None:
        """Ask the broker again and again, from outside the loops that consume."""
        while True:
            await asyncio.sleep(min(ASK_S, self._choices.stall_s / 4))
            if self._intake is not None:
                await self._look(self._intake)

    async def _look(self, intake: Intake) -> None:
        try:
            backlog = await asyncio.wait_for(intake.backlog(), ASK_S)
        except GroupGone:
            self._pulse.ask(monotonic(), 0, consuming=False)
            self._figures.watch(connected=True)
            return
        except (BrokerAway, TimeoutError) as error:
            if self._pulse.seen.connected:
                logs.write_error("ingest_away", error)
            self._pulse.miss()
            self._figures.watch(connected=False)
            return
        consuming = intake.consuming()
        self._pulse.ask(monotonic(), backlog.waiting, consuming=consuming)
        self._figures.watch(connected=True, pending=backlog.waiting + backlog.taken)
        if consuming and not backlog.waiting:
            self._figures.polled()

    def _attempted(self, status: int) -> None:
        self._status = status
        self._pulse.beat(monotonic())

    def _settled(self, settled: Iterable[Settled], seconds: float) -> None:
        self._figures.count(settled, seconds)
        self._pulse.beat(monotonic())

    def _app(self) -> Starlette:
        return app_of(
            lambda: judge(self._pulse.seen, monotonic(), self._choices.stall_s),
            lambda: causes(connected=self._pulse.seen.connected, failing=self._consumer.failing, status=self._status),
            self._figures,
        )


class _Server(uvicorn.Server):
    """Answers probes until the consumer has ended; a signal ends the consumer."""

    def __init__(self, app: Starlette, stopping: asyncio.Event) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                http=BoundedHeads,
                ws="none",
            )
        )
        self._told, self._loop = stopping, asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        logs.write("stopping", {"signal": sig})
        self._loop.call_soon_threadsafe(self._told.set)


def _listen(choices: IngestChoices) -> socket.socket:
    family = socket.AF_INET6 if ":" in choices.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((choices.host, choices.port))
    except OSError as error:
        listener.close()
        raise IngestPortTaken(choices.host, choices.port, error.strerror or "unknown") from error
    logs.write("ingest_listens", {"port": listener.getsockname()[1]})
    return listener


async def _close(intake: Intake) -> None:
    """However the broker's client ends, this process does."""
    try:
        await asyncio.wait_for(intake.stop(), ASK_S)
    except (BrokerAway, TimeoutError) as error:
        logs.write_error("ingest_close_failed", error)
