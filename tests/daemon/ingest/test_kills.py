"""Consumers and brokers that are killed while events flow: nothing is lost, and nothing is stored twice."""

import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.daemon.ingest.brokers import structured
from tests.daemon.ingest.consuming import MODULES
from tests.daemon.ingest.world import World, figure
from tests.faults.failpoints import Change
from tests.faults.figures import record
from tests.faults.killing import until

POINTS = ("consumer-before-sending", "consumer-before-acknowledging", "consumer-after-acknowledging")
CHUNK = 100
STORED = "plora_ingest_messages_total"


def example(number: int) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "type": "plora.example.v1",
        "source": "/shop",
        "id": f"order-{number}",
        "subject": f"user-{number % 100}",
        "data": {"text": f"text {number}", "label": "good"},
    }


class Host(threading.Thread):
    """Publishes every event, again where the broker does not say that it has them."""

    def __init__(self, world: World, total: int, pace_s: float) -> None:
        super().__init__(daemon=True)
        self.world, self.total, self.pace_s, self.retries = world, total, pace_s, 0

    def run(self) -> None:
        pause = threading.Event()
        for start in range(0, self.total, CHUNK):
            numbers = range(start, min(self.total, start + CHUNK))
            while True:
                try:
                    self.world.broker.carry([structured(example(number)) for number in numbers])
                    break
                except Exception:  # noqa: BLE001 - whatever a client says while its broker is dead
                    self.retries += 1
                    pause.wait(0.1)
            pause.wait(self.pace_s)


@dataclass(frozen=True)
class Plan:
    """How many messages and deaths; `slow` says how much longer than others a broker takes to miss a consumer."""

    total: int
    kills: int
    broker_kills: int = 0
    slow: float = 1.0
    limit_s: float = 120.0
    points: Sequence[str] = POINTS
    names: Sequence[str] = ("one", "two")
    armed: float = 0.5  # the share of consumers that die at a point
    seed: int = field(default_factory=lambda: secrets.randbits(32))


def killed(world: World, plan: Plan) -> dict[str, object]:
    """Two consumers, one of which is always about to die; then what is stored."""
    draw, started = random.Random(plan.seed), time.monotonic()
    host = Host(world, plan.total, pace_s=plan.slow * plan.kills * CHUNK / plan.total / 2)
    host.start()
    died = _kill(world, plan, draw)
    host.join(120)
    world.start("three", BATCH=200)
    finished = world.settled(plan.total, plan.limit_s)
    stored = world.daemon.stored()
    return {
        "seed": plan.seed,
        "messages": plan.total,
        "kills": plan.kills,
        "at_named_points": died["named point"],
        "broker_kills": died["broker"],
        "lost": plan.total - len(stored),
        "doubled": stored.total() - len(stored),
        "settled": finished and not host.is_alive(),
        "dead_letters": len(world.broker.dead()),
        "seconds": round(time.monotonic() - started, 1),
    }


def _kill(world: World, plan: Plan, draw: random.Random) -> Counter[str]:
    died: Counter[str] = Counter()
    broker_at = set(draw.sample(range(1, plan.kills), plan.broker_kills))
    standing = {}
    for at in range(plan.kills):
        for name in plan.names:
            if name not in standing:
                deadly = {draw.choice(plan.points): ("kill", draw.choice((1, 2, 3)))}
                armed = draw.random() < plan.armed
                standing[name] = world.start(name, deadly if armed else {}, BATCH=50)[0], armed
        child, armed = standing.pop(draw.choice(plan.names))
        if child.wait(plan.slow * (2.0 if armed else draw.uniform(0.3, 0.8))):
            died["named point"] += 1
        else:
            died["any moment"] += 1
            child.kill()
        if at in broker_at:
            world.broker.server.kill()
            world.broker.server.start()
            died["broker"] += 1
    return died


def holds(figures: dict[str, object]) -> bool:
    return bool(figures["settled"]) and not (figures["lost"] or figures["doubled"] or figures["dead_letters"])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["redis", "nats", "kafka"])
def test_ten_thousand_messages_survive_kills_of_consumers_and_brokers(world, kind):
    plan = Plan(10_000, 30, 3) if kind != "kafka" else Plan(10_000, 6, slow=15, names=["one"], armed=1.0)
    figures = killed(world(kind), plan)
    record(f"I8.{kind}", **figures, full=True)
    assert holds(figures)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_the_kills_find_what_acknowledges_too_early(world, first_consumers, kind):
    old = "        settled, events, places = self._read(batch)\n"
    early = Change(
        "daemon/ingest/consumer.py", old, f"{old}        await batch.settle()\n        await asyncio.sleep(0.05)\n"
    )
    made = world(kind, first_consumers.variant(MODULES, [early]))
    figures = killed(made, Plan(2_000, 12, limit_s=10, points=POINTS[:1]))
    record(f"I8.mutant.{kind}", **figures, full=True)
    assert figures["lost"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["redis", "nats", "kafka"])
def test_one_consumer_takes_ten_thousand_messages(world, kind):
    made, total = world(kind), 10_000
    made.broker.carry([structured(example(number)) for number in range(total)])
    _, port = made.start(BATCH=500)
    assert until(lambda: figure(port, STORED) > 0, 20)
    started, before = time.monotonic(), figure(port, STORED)
    assert until(lambda: figure(port, STORED) == total, 120)
    seconds = time.monotonic() - started
    assert made.daemon.count() == total
    pace = round((total - before) / seconds)
    record(f"I8.rate.{kind}", 0, messages=total, seconds=round(seconds, 1), per_second=pace)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_a_frozen_consumer_is_replaced_and_doubles_nothing_when_it_wakes(world, kind):
    made = world(kind)
    child, _ = made.start("one", {"consumer-before-sending": ("stop", 1)}, BATCH=50)
    made.broker.carry([structured(example(number)) for number in range(100)])
    assert until(lambda: made.broker.left() == 100, 5)
    made.start("two")
    assert until(lambda: made.daemon.count() == 100, 20), made.log.read_text()
    child.signal(signal.SIGCONT)
    assert made.settled(100)
    assert not until(lambda: made.daemon.count() != 100, 1.5)
