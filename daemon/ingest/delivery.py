"""Events on their way to the daemon: posted in batches, again and again until each of them is settled.

Order is kept: nothing behind a batch is sent before all of it is settled. So a daemon that says 429 or 503 slows the
whole consumer down, and the broker keeps what waits.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from daemon import logs
from daemon.errors import DaemonError
from daemon.events import BATCH, Bounds
from daemon.ingest.answers import Answered, Halve, Reply, Said, Settled, decide
from storage import StorageError
from storage.keyfiles import read_secret

TIMEOUT_S = 30.0
UNKNOWN = 401


class Stopping(DaemonError):
    """This process is told to end while events are not settled; the broker gives them to another."""

    def __str__(self) -> str:
        return "the consumer is told to end"


class Door:
    """The daemon's POST /v1/events, asked with the token of a caller, which is read again when it is refused."""

    def __init__(self, url: str, token_file: Path) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False)
        self._token_file, self._token = token_file, ""

    async def close(self) -> None:
        await self._http.aclose()

    async def post(self, events: Sequence[bytes]) -> Reply:
        """The daemon's answer, whatever it is; status 0 when none came."""
        try:
            self._token = self._token or read_secret(self._token_file).decode("ascii").strip()
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": BATCH}
            answer = await self._http.post("/v1/events", content=b"[" + b",".join(events) + b"]", headers=headers)
        except httpx.HTTPError as error:
            return Reply(0, type(error).__name__)
        except (StorageError, ValueError) as error:
            return Reply(UNKNOWN, type(error).__name__)
        if answer.status_code == UNKNOWN:
            self._token = ""
        return _reply(answer)


class Delivery:
    """Brings events to the Door. `attempted` hears of each answer, with its status."""

    def __init__(self, door: Door, bounds: Bounds, stopping: asyncio.Event, attempted: Callable[[int], None]) -> None:
        self._door, self._bounds, self._stopping, self._attempted = door, bounds, stopping, attempted

    async def deliver(self, events: Sequence[bytes]) -> list[Settled]:
        """What became of each event, in order; returns when all are settled. Raises Stopping."""
        settled: list[Settled] = []
        if self._stopping.is_set():
            raise Stopping
        for stretch in _stretches(events, self._bounds):
            settled += await self._settle(stretch)
        return settled

    async def _settle(self, events: Sequence[bytes]) -> list[Settled]:
        found: dict[int, Settled] = {}
        waiting, failures = list(range(len(events))), 0
        while waiting:
            reply = await self._door.post([events[at] for at in waiting])
            self._attempted(reply.status)
            decision = decide(reply, len(waiting), failures)
            if isinstance(decision, Halve):
                found |= dict(zip(waiting, await self._halve([events[at] for at in waiting]), strict=True))
                break
            if isinstance(decision, Answered):
                pairs = list(zip(waiting, decision.settled, strict=True))
                found |= {at: each for at, each in pairs if each is not None}
                failures = failures + 1 if len(pairs) == len([each for _, each in pairs if each is None]) else 0
                waiting = [at for at, each in pairs if each is None]
            else:
                failures += 1
            if waiting:
                _say(reply, len(waiting), decision.wait_s)
                await self._pause(decision.wait_s)
        return [found[at] for at in range(len(events))]

    async def _halve(self, events: Sequence[bytes]) -> list[Settled]:
        middle = len(events) // 2
        return [*await self._settle(events[:middle]), *await self._settle(events[middle:])]

    async def _pause(self, wait_s: float) -> None:
        """Wait, but not after this process is told to end. Raises Stopping."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)
        if self._stopping.is_set():
            raise Stopping


def _stretches(events: Sequence[bytes], bounds: Bounds) -> Iterator[Sequence[bytes]]:
    """Cut where the daemon would not read more in one body."""
    start, size = 0, 2
    for at, event in enumerate(events):
        if at > start and (size + len(event) > bounds.batch_bytes or at - start >= bounds.batch_events):
            yield events[start:at]
            start, size = at, 2
        size += len(event) + 1
    if start < len(events):
        yield events[start:]


def _reply(answer: httpx.Response) -> Reply:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        body = None
    said: list[Said] = []
    if isinstance(body, dict) and isinstance(outcomes := body.get("outcomes"), list):
        said = [_said(each) for each in outcomes if isinstance(each, dict)]
    code = body.get("code") if isinstance(body, dict) else None
    return Reply(answer.status_code, code if isinstance(code, str) else "", _retry_after_s(answer), said)


def _said(outcome: dict[str, object]) -> Said:
    status, word, code = outcome.get("status"), outcome.get("outcome"), outcome.get("code")
    return Said(status if isinstance(status, int) else 503, str(word or ""), str(code or ""))


def _retry_after_s(answer: httpx.Response) -> float:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdigit() and len(value) < 6 else 0.0


def _say(reply: Reply, count: int, wait_s: float) -> None:
    facts: dict[str, logs.Fact] = {
        "status": reply.status,
        "code": reply.code,
        "count": count,
        "wait_s": round(wait_s, 2),
    }
    logs.write("ingest_waits", facts, level=logging.WARNING)
