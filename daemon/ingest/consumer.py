"""What is done with a batch, whatever broker it came from.

Each event is sent to the daemon until it is settled, dead letters are put aside, and only then is the batch
acknowledged. Wherever this process dies before, the broker gives the batch out again, and the daemon's own rule that
the same source and id is one event makes that harmless.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence

from daemon import logs
from daemon.clock import monotonic
from daemon.errors import EventRefused
from daemon.ingest.answers import Fate, Settled
from daemon.ingest.brokers import BrokerAway
from daemon.ingest.delivery import Delivery, Stopping
from daemon.ingest.letters import Batch, Binding, event_of

OnSettled = Callable[[Iterable[Settled], float], None]
TOO_LARGE = "event_too_large"
RETRY_S = 1.0
LAST_S = 60.0


class Consumer:
    """Takes one batch after the other. Exactly one is worked on at a time, so that order is kept."""

    def __init__(
        self, delivery: Delivery, binding: Binding, on_settled: OnSettled, *, event_bytes: int, keep_every_s: float
    ) -> None:
        self._delivery, self._binding, self._on_settled = delivery, binding, on_settled
        self._event_bytes, self._keep_every_s = event_bytes, keep_every_s
        self._turn = asyncio.Lock()
        self.failing = False  # whether the last batch could not be settled

    async def idle(self) -> None:
        """Return once no batch is at work."""
        async with self._turn:
            return

    async def take(self, batch: Batch) -> None:
        """Settle `batch`, or give it back. Raises nothing, but for being cancelled."""
        keeping = asyncio.create_task(self._keep(batch))
        try:
            async with self._turn:
                await self._settle(batch)
        except Stopping:
            await _release(batch)
            await asyncio.sleep(LAST_S)  # else the library would take the next batch
        except Exception as error:  # noqa: BLE001 - the edge of a batch, as of a request
            self.failing = True
            logs.write_error("ingest_failed", error, {"count": len(batch.letters)})
            await _release(batch)
            await asyncio.sleep(RETRY_S)
        except asyncio.CancelledError:
            await _release(batch)
            raise
        finally:
            keeping.cancel()

    async def _settle(self, batch: Batch) -> None:
        started = monotonic()
        settled, events, places = self._read(batch)
        # failpoint: consumer-before-sending
        for at, each in zip(places, await self._delivery.deliver(events), strict=True):
            settled[at] = each
        for at, each in settled.items():
            if each.fate is Fate.DEAD:
                await batch.bury(at, each.code)
                logs.write("ingest_dead_letter", {"code": each.code}, level=logging.WARNING)
        # failpoint: consumer-before-acknowledging
        await batch.settle()
        # failpoint: consumer-after-acknowledging
        self.failing = False
        self._on_settled(settled.values(), monotonic() - started)

    def _read(self, batch: Batch) -> tuple[dict[int, Settled], Sequence[bytes], Sequence[int]]:
        """Those that are no events, then the events with their places."""
        dead: dict[int, Settled] = {}
        events: dict[int, bytes] = {}
        for at, letter in enumerate(batch.letters):
            try:
                event = event_of(letter, self._binding)
            except EventRefused as refused:
                dead[at] = Settled(Fate.DEAD, refused.code)
                continue
            if len(event) > self._event_bytes:
                dead[at] = Settled(Fate.DEAD, TOO_LARGE)
            else:
                events[at] = event
        return dead, list(events.values()), list(events)

    async def _keep(self, batch: Batch) -> None:
        while True:
            await asyncio.sleep(self._keep_every_s)
            try:
                await batch.keep()
            except BrokerAway as away:  # it gives the batch out again
                logs.write_error("ingest_keep_failed", away)


async def _release(batch: Batch) -> None:
    with contextlib.suppress(BrokerAway):  # it comes again anyway, only later
        await batch.release()
