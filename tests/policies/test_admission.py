"""Buckets: what is let in, and when the rest may come."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.admission import Admit, Bucket, Rate, Refuse, admit, filled
from policies.facts import InvalidFact

NOW = datetime(2031, 1, 1, tzinfo=UTC)
RATES = st.builds(Rate, st.floats(0.01, 1e4), st.floats(1, 1e5))
COSTS = st.lists(st.tuples(st.floats(0, 50), st.floats(-1, 5)), max_size=40)


def taken(bucket: Bucket | None, cost: float, rate: Rate, now: datetime) -> Bucket:
    decision = admit(bucket, cost, rate, now)
    assert isinstance(decision, Admit)
    return decision.bucket


def test_a_burst_is_let_in_and_the_next_waits_for_its_share():
    rate, bucket = Rate(2, 10), None
    for _ in range(10):
        bucket = taken(bucket, 1, rate, NOW)
    assert admit(bucket, 1, rate, NOW) == Refuse(0.5)
    assert isinstance(admit(bucket, 1, rate, NOW + timedelta(seconds=0.5)), Admit)


def test_a_cost_above_the_burst_takes_the_whole_bucket():
    rate = Rate(1, 10)
    assert taken(None, 1_000, rate, NOW).left == 0
    assert isinstance(admit(Bucket(9, NOW), 1_000, rate, NOW), Refuse)


@given(RATES, COSTS)
def test_no_more_is_let_in_than_the_burst_and_the_time_allow(rate: Rate, asked: list[tuple[float, float]]):
    now, latest, admitted, bucket = NOW, NOW, 0.0, None
    for cost, passed in asked:
        now += timedelta(seconds=passed)
        latest = max(latest, now)
        decision = admit(bucket, cost, rate, now)
        if isinstance(decision, Admit):
            bucket = decision.bucket
            admitted += min(cost, rate.burst)
            assert 0 <= bucket.left <= rate.burst
    assert admitted <= rate.burst + (latest - NOW).total_seconds() * rate.per_s + 1e-3


@given(RATES, st.floats(0, 1), st.floats(0, 100))
def test_after_the_time_that_was_named_it_is_let_in(rate: Rate, share: float, cost: float):
    bucket = Bucket(rate.burst * share, NOW)
    decision = admit(bucket, cost, rate, NOW)
    if isinstance(decision, Refuse):
        later = NOW + timedelta(seconds=decision.retry_after_s + 1e-3)
        assert isinstance(admit(bucket, cost, rate, later), Admit)


def test_a_clock_that_goes_back_fills_nothing():
    rate, bucket = Rate(10, 10), Bucket(0, NOW)
    assert filled(bucket, rate, NOW - timedelta(days=1)) == 0
    kept = taken(Bucket(5, NOW), 1, rate, NOW - timedelta(days=1))
    assert kept == Bucket(4, NOW)


@pytest.mark.parametrize("wrong", [(0, 1), (-1, 1), (float("nan"), 1), (1, 0), (1, float("inf"))])
def test_a_rate_that_lets_nothing_in_is_refused(wrong: tuple[float, float]):
    with pytest.raises(InvalidFact):
        Rate(*wrong)
