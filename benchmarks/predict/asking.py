"""Hosts that ask as fast as they are answered, and what they were answered."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx

from benchmarks.predict.world import LABELS, TEXTS, Chances, Person
from daemon.demo.process import Running

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of one text: by the clock when it was sent and answered, and what the answer says of itself.

    `status` is that of HTTP; `version` 0 is the generic model.
    """

    person: Person
    text: int
    sent: float
    answered: float
    status: int
    version: int = 0
    chances: Chances = field(default=(), repr=False)

    @property
    def seconds(self) -> float:
        return self.answered - self.sent


Choice = tuple[Person, int]
"""Who is to be asked for, and which of TEXTS."""


class Hosts:
    """So many connections to one daemon. Use it in an `async with`."""

    def __init__(self, running: Running, connections: int) -> None:
        self._connections = connections
        self._http = httpx.AsyncClient(
            base_url=running.url,
            headers={"Authorization": f"Bearer {running.host_token}"},
            timeout=TIMEOUT_S,
            trust_env=False,
            limits=httpx.Limits(max_connections=connections + 4),
        )

    async def __aenter__(self) -> "Hosts":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, person: Person, text: int) -> Asked:
        """One request."""
        body = {"inputs": [{"user": person.id, "text": TEXTS[text]}]}
        sent = time.monotonic()
        response = await self._http.post("/v1/predict", json=body)
        answered = time.monotonic()
        if response.status_code != httpx.codes.OK:
            return Asked(person, text, sent, answered, response.status_code)
        [answer] = response.json()["answers"]
        chances = tuple(answer["probabilities"][label] for label in LABELS)
        return Asked(person, text, sent, answered, response.status_code, answer["version"] or 0, chances)

    async def all(self, choices: Iterator[Choice], heard: Callable[[Asked], None]) -> None:
        """Ask for all `choices`, each connection for the next as soon as it was answered."""

        async def one() -> None:
            for person, text in choices:
                heard(await self.ask(person, text))

        await asyncio.gather(*(one() for _ in range(self._connections)))

    async def request(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Anything else that a host may ask."""
        return await self._http.request(method, path, json=body)
