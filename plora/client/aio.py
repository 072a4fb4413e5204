"""AsyncClient: a plora daemon over HTTP, for hosts that live in an event loop. Method by method it is Client."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

import httpx

from plora.adapter import Adapter
from plora.basis import Basis
from plora.codec import loads_basis
from plora.lowrank import LowRankAdapter

from . import requests
from .answers import GENERIC, Answer, Fetched, Said
from .errors import ClientError, DaemonAway
from .held import Held
from .requests import Call, Reply

FETCHES = 8


class AsyncClient:
    """One daemon as a host sees it. For one event loop; use it in an `async with`, which follows revocations.

    `source` names the host in its events. With `fail_open` a user whose adapter cannot be had is answered by the
    generic model (None); else DaemonAway or Stale is raised. Adapters are held for `keep` users, and used without
    asking only while revocations were heard of in the last `stale_s` seconds.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        source: str = "/plora-client",
        fail_open: bool = True,
        keep: int = 10_000,
        stale_s: float = 30.0,
        timeout_s: float = 30.0,
        follow: bool = True,
    ) -> None:
        self.source, self.fail_open = source, fail_open
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_s, trust_env=False
        )
        self._held = Held(keep, stale_s)
        self._poll_s = min(8.0, stale_s / 2)
        self._follows = follow
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._follows:
            self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._http.base_url)!r}, {len(self._held)} adapters held)"

    async def close(self) -> None:
        """End the connections and what follows revocations."""
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
        await self._http.aclose()

    async def tell(self, user: str, text: str, label: str, *, id: str | None = None) -> Said:
        """One example of the user's. With an `id` of the host's own, telling it twice is telling it once."""
        return (await self.send([requests.event(self.source, user, "example", {"text": text, "label": label}, id)]))[0]

    async def consent(self, user: str, granted: bool = True) -> Said:
        """Whether the user may be learned from."""
        return (await self.send([requests.event(self.source, user, "consent", {"granted": granted}, None)]))[0]

    async def outcome(self, user: str, answer: str, value: float) -> Said:
        """What became of an answer, from 0 to 1: for the version that gave it."""
        return (
            await self.send([requests.event(self.source, user, "outcome", {"answer": answer, "value": value}, None)])
        )[0]

    async def send(self, events: Sequence[Mapping[str, object]]) -> list[Said]:
        """CloudEvents of the host's own making; what became of each."""
        said: list[Said] = []
        for start in range(0, len(events), requests.BATCH):
            call = requests.events(events[start : start + requests.BATCH])
            said += requests.said(await self._ask(call))
        return said

    async def predict(self, questions: Sequence[tuple[str, str]], *, why: bool = False) -> list[Answer]:
        """An answer to each (user, text), in order; with `why`, what moved it. Raises Refused or DaemonAway."""
        return requests.predicted(await self._ask(requests.predict(questions, why=why))) if questions else []

    async def correct(self, answer: str, label: str, *, text: str | None = None) -> None:
        """The right label of an answer, by its token; the text too unless the answer was held."""
        await self._ask(requests.correct(answer, label, text))

    async def forget(self, user: str) -> None:
        """Have everything of the user destroyed. Raises Refused where there is no such user."""
        await self._ask(requests.forget(user))

    async def basis(self) -> Basis:
        """The newest Basis that is ready. Raises Refused where there is none."""
        newest = requests.newest_basis(await self._ask(requests.bases()))
        return loads_basis((await self._ask(requests.basis(newest))).content)

    async def adapter(self, user: str) -> Adapter | LowRankAdapter | None:
        """What serves the user, for `live.use`; None is the generic model."""
        return (await self.fetch(user)).adapter

    async def adapters(self, users: Sequence[str | None]) -> list[Adapter | LowRankAdapter | None]:
        """One for each user, in order; what is not held is fetched, some at a time."""
        names = list(dict.fromkeys(user for user in users if user is not None))
        found = dict[str, Adapter | LowRankAdapter | None]()
        for start in range(0, len(names), FETCHES):
            part = names[start : start + FETCHES]
            found.update(zip(part, await asyncio.gather(*map(self.adapter, part)), strict=True))
        return [None if user is None else found[user] for user in users]

    async def fetch(self, user: str) -> Fetched:
        """What serves the user and its version. Raises DaemonAway or Stale unless the client fails open."""
        held = self._held.get(user)
        if held is not None and self._held.fresh:
            return held
        try:
            reply = await self._send(requests.adapter(user, held.digest if held else None))
            found = requests.fetched(reply, held)
        except DaemonAway:
            if self.fail_open:
                return GENERIC
            if held is not None:
                raise self._held.too_old() from None
            raise
        self._held.put(user, found)
        return found

    async def _ask(self, call: Call) -> Reply:
        return requests.checked(await self._send(call))

    async def _send(self, call: Call) -> Reply:
        """Raises DaemonAway where nothing answers."""
        attempt = 0
        while True:
            reply = await self._once(call)
            pause = requests.pause_s(attempt, reply) if call.safe else None
            if pause is None:
                if reply is None or reply.status in requests.AWAY:
                    raise DaemonAway(None if reply is None else reply.status)
                return reply
            attempt += 1
            await asyncio.sleep(pause)

    async def _once(self, call: Call) -> Reply | None:
        timeout = self._http.timeout if call.timeout_s is None else call.timeout_s
        try:
            found = await self._http.request(
                call.method, call.path, content=call.body, headers=dict(call.headers), timeout=timeout
            )
        except httpx.TransportError:
            return None
        return Reply(found.status_code, found.headers, found.content)

    async def _follow(self) -> None:
        """Hear of revocations until the end, and fetch again what was in use."""
        after: int | None = None
        while True:
            try:
                reply = await self._once(requests.changes(after, self._poll_s if after is not None else 0.0))
                if reply is None:
                    raise DaemonAway
                after, revoked, moved = requests.changed(requests.checked(reply))
                gone = self._held.hear(revoked, moved=moved)
                for user in gone[-FETCHES:]:
                    await self.fetch(user)
            except (ClientError, RuntimeError, KeyError, ValueError):  # RuntimeError: closed meanwhile
                await asyncio.sleep(1.0)
