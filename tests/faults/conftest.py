"""Servers of processes that several suites share, since what they import takes seconds."""

from collections.abc import Iterator

import pytest

from tests.faults.zygote import DAEMON, OURS, POSTGRES, Zygote, zygote


@pytest.fixture(scope="session")
def first_server() -> Iterator[Zygote]:
    """Children that have imported nothing of ours."""
    with zygote() as first:
        yield first


@pytest.fixture(scope="session")
def daemons(first_server: Zygote) -> Zygote:
    """Children that have imported a whole daemon, with its failpoints."""
    return first_server.variant(DAEMON + POSTGRES + OURS)
