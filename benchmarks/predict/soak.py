"""Many requests while adapters are promoted, rolled back and forgotten: is any answer another's, or out of date?"""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.predict.asking import Asked, Choice, Hosts
from benchmarks.predict.history import History, Moved, Tally
from benchmarks.predict.load import CONNECTIONS, percentile
from benchmarks.predict.world import TEXTS, Person, World

PAUSE_S = 0.05
FORGOTTEN_SHARE = 0.25
"""Of the users, who may be forgotten while it lasts; most are left to be moved."""


@dataclass(slots=True)
class Soak:
    """What was seen. `visible_s` is from the answer to a move until the next answer of that user, which shows it."""

    tally: Tally
    promoted: int = 0
    rolled_back: int = 0
    forgotten: int = 0
    visible_s: list[float] = field(default_factory=list, repr=False)
    seconds: float = 0.0

    @property
    def visible_p99_s(self) -> float:
        return percentile(sorted(self.visible_s), 99)


async def soak(world: World, requests: int, seed: int) -> Soak:
    """Ask `requests` times for anybody, while users are moved one after another."""
    history, order, held = History(), random.Random(seed), list[Asked]()
    found = Soak(history.tally)
    over = asyncio.Event()
    begun = time.monotonic()
    async with Hosts(world.running, CONNECTIONS) as hosts:
        moving = asyncio.create_task(_Mover(world, hosts, history, found, random.Random(seed + 1)).until(over))
        await hosts.all(_anybody(world, order, requests), held.append)
        over.set()
        await moving
    found.seconds = time.monotonic() - begun
    for asked in held:  # every move that touches them is noted by now
        history.hear(asked)
    return found


def _anybody(world: World, order: random.Random, requests: int) -> Iterator[Choice]:
    for _ in range(requests):
        yield order.choice(world.people), order.randrange(len(TEXTS))


@dataclass(slots=True)
class _Mover:
    """Moves users one after another, and looks each time how soon it is seen."""

    world: World
    hosts: Hosts
    history: History
    found: Soak
    order: random.Random
    serving: dict[str, int] = field(default_factory=dict)

    async def until(self, over: asyncio.Event) -> None:
        """Go on until `over` is set."""
        kept = int(len(self.world.people) * (1 - FORGOTTEN_SHARE))
        stay, leave = self.world.people[:kept], iter(self.world.people[kept:])
        while not over.is_set():
            kind = self.order.choices(("promote", "roll back", "forget"), (5, 5, 2))[0]
            person = next(leave, None) if kind == "forget" else self.order.choice(stay)
            if person is not None:
                begun = time.monotonic()
                version = await self._move(kind, person)
                self.history.moved(person, Moved(begun, time.monotonic(), version))
                _count(self.found, kind)
                self.found.visible_s.append(await self._until_seen(person, version))
            await asyncio.sleep(PAUSE_S)

    async def _move(self, kind: str, person: Person) -> int:
        """Make one move; the version that serves after it."""
        if kind == "forget":
            (await self.hosts.request("DELETE", f"/v1/users/{person.id}")).raise_for_status()
            return 0
        if kind == "promote":
            await asyncio.to_thread(self.world.promote, [person])
            self.serving[person.id] = max(person.answers)
            return self.serving[person.id]
        to = max(0, self.serving.get(person.id, 1) - 1)
        answer = await self.hosts.request("POST", f"/v1/users/{person.id}/rollback", {"to": to})
        answer.raise_for_status()
        self.serving[person.id] = answer.json()["serving"] or 0
        return self.serving[person.id]

    async def _until_seen(self, person: Person, version: int) -> float:
        """Seconds from now until an answer shows the move; answers before it are judged like all others."""
        begun = time.monotonic()
        while True:
            asked = await self.hosts.ask(person, self.order.randrange(len(TEXTS)))
            self.history.hear(asked)
            if asked.status == 200 and asked.version == version:
                return time.monotonic() - begun


def _count(found: Soak, kind: str) -> None:
    if kind == "promote":
        found.promoted += 1
    elif kind == "forget":
        found.forgotten += 1
    else:
        found.rolled_back += 1
