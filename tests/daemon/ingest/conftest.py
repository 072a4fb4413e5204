"""One server of consumer processes for all of these tests, and a world for each broker."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.ingest.brokers import BROKERS, Door
from tests.daemon.ingest.consuming import MODULES
from tests.daemon.ingest.world import Daemon, World
from tests.faults.zygote import Zygote, zygote


@pytest.fixture(scope="session")
def first_consumers() -> Iterator[Zygote]:
    """Children that have imported nothing of ours."""
    with zygote() as first:
        yield first


@pytest.fixture(scope="session")
def consumers(first_consumers: Zygote) -> Zygote:
    """Children that have imported a whole consumer, with its failpoints."""
    return first_consumers.variant(MODULES)


@pytest.fixture
def world(consumers: Zygote, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes the world of a broker, by its name."""
    made: list[World] = []

    def make(kind: str, children: Zygote | None = None, door: Door | None = None, **chosen: object) -> World:
        broker = BROKERS[kind](tmp_path, door) if door else BROKERS[kind](tmp_path)
        made.append(World(tmp_path, children or consumers, broker, Daemon(tmp_path, **chosen)))
        return made[-1]

    yield make
    for each in made:
        each.close()
