"""A3: the power may go at any write; whatever was acknowledged is there, and all of it opens."""

import secrets
from collections.abc import Iterator

import pytest

from tests.faults.figures import record
from tests.faults.powerloss import STORAGE_CHILD, lose_power, recorder
from tests.faults.zygote import Zygote, zygote


@pytest.fixture(scope="module")
def recorded_stores(tmp_path_factory) -> Iterator[Zygote]:
    with zygote(recorder(tmp_path_factory.mktemp("recorder"))) as first:
        yield first.variant(STORAGE_CHILD)


def test_a_lost_power_loses_nothing_that_was_acknowledged(recorded_stores, tmp_path):
    seed = secrets.randbits(32)
    figures = lose_power(recorded_stores, recorded_stores, tmp_path, states=100, steps=60, seed=seed)
    record("A3", seed, **figures, full=False)
    assert not figures["broken"]
    assert figures["syncs"] > 50


@pytest.mark.long
def test_nothing_that_was_acknowledged_rests_on_a_sync_that_failed(recorded_stores, tmp_path):
    seed = secrets.randbits(32)
    figures = lose_power(recorded_stores, recorded_stores, tmp_path, states=20, steps=60, seed=seed, failing=7)
    record("A3.failed_syncs", seed, **figures)
    assert not figures["broken"]
    assert figures["failed_steps"] >= 5


@pytest.mark.long
@pytest.mark.parametrize("part", range(3))
def test_many_lost_powers_lose_nothing_that_was_acknowledged(recorded_stores, tmp_path, part):
    seed = secrets.randbits(32)
    figures = lose_power(recorded_stores, recorded_stores, tmp_path, states=400, steps=200, seed=seed)
    record(f"A3.{part + 1}", seed, **figures, full=True)
    assert not figures["broken"]
