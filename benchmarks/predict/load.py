"""Latency where everybody is the same user, and where a thousand are: by turns, so that both meet the same machine."""

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.predict.asking import Asked, Choice, Hosts
from benchmarks.predict.world import TEXTS, Person, World

CONNECTIONS = 8
TURNS = 6


@dataclass(frozen=True, slots=True)
class Latency:
    """Of requests of one text each, over `CONNECTIONS` connections that ask again at once. Milliseconds."""

    users: int
    requests: int
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_second: float


async def latencies(world: World, requests: int) -> tuple[Latency, Latency]:
    """One user and all of them, `requests` each, in turns."""
    order = random.Random(7)
    one, many = list[Asked](), list[Asked]()
    spent = [0.0, 0.0]
    async with Hosts(world.running, CONNECTIONS) as hosts:
        warm = list[Asked]()
        await hosts.all(_any(order, world.people, requests // TURNS), warm.append)
        for _ in range(TURNS):
            for at, (heard, whom) in enumerate(((one, world.people[:1]), (many, world.people))):
                before = len(heard)
                await hosts.all(_any(order, whom, requests // TURNS), heard.append)
                turn = heard[before:]
                spent[at] += max(each.answered for each in turn) - min(each.sent for each in turn)
    return _latency(1, one, spent[0]), _latency(len(world.people), many, spent[1])


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The least value that so many percent do not exceed."""
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def _any(order: random.Random, whom: Sequence[Person], count: int) -> Iterator[Choice]:
    for _ in range(count):
        yield order.choice(whom), order.randrange(len(TEXTS))


def _latency(users: int, asked: Sequence[Asked], seconds: float) -> Latency:
    took = sorted(1000 * each.seconds for each in asked if each.status == 200)
    return Latency(
        users=users,
        requests=len(asked),
        failed=len(asked) - len(took),
        p50_ms=round(statistics.median(took), 2),
        p95_ms=round(percentile(took, 95), 2),
        p99_ms=round(percentile(took, 99), 2),
        per_second=round(len(took) / seconds, 1),
    )
