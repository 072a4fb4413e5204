"""A version is held against what came after it was made."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.belief import Measured
from policies.drift import BeginAnew, Drifted, Fresh, GoOn, RollBack, Steady, Watch, since, watch

BAR = Watch()


def fresh(n: int = 8, gain: float = 0.3, short: float = 0.0, spread: float = 0.4) -> Fresh:
    error = spread / math.sqrt(n)
    return Fresh(Measured(gain, error, n), Measured(short, error, n))


@pytest.mark.parametrize(
    ("seen", "kind", "code"),
    [
        (None, Steady, "nothing_in_use"),
        (fresh(3, gain=-2.0), Steady, "too_few_fresh"),
        (fresh(4, gain=-0.5), RollBack, "loses"),
        (fresh(4, gain=-0.1), Steady, "steady"),
        (fresh(8, gain=0.2, short=0.5), Drifted, "worse_than_promised"),
        (fresh(8, gain=0.2, short=0.1), Steady, "steady"),
        (fresh(8, gain=0.3, short=-0.5), Steady, "steady"),
        (replace(fresh(), shortfall=Measured(math.nan, math.nan, 0)), Steady, "steady"),
        (replace(fresh(), gain=Measured(math.nan, 0.1, 8)), RollBack, "not_finite"),
    ],
)
def test_a_version_is_kept_doubted_or_rolled_back(seen, kind, code):
    answer = watch(seen, BAR)
    assert (type(answer), answer.code) == (kind, code)


def test_the_reason_is_told_in_numbers():
    assert watch(fresh(8, gain=-0.4), BAR).reason == (
        "it is 0.400 nats per example worse than generic on 8 examples since the version: 1.00 certain"
    )


@pytest.mark.parametrize(("loss", "spread", "most"), [(0.5, 0.7, 4), (0.25, 0.7, 13), (1.5, 1.0, 4)])
def test_a_flip_is_rolled_back_after_as_many_examples_as_is_said(loss, spread, most):
    assert isinstance(watch(fresh(most, gain=-loss, spread=spread), BAR), RollBack)
    needed = math.ceil((1.2816 * spread / loss) ** 2)
    if needed > BAR.min_fresh:
        assert isinstance(watch(fresh(needed - 1, gain=-loss, spread=spread), BAR), Steady)


def test_a_user_who_did_not_change_is_seldom_taken_for_one_who_did():
    draw, alarms = random.Random(1), 0
    for _ in range(2000):
        gains = [draw.gauss(0.15, 0.6) for _ in range(8)]
        mean = sum(gains) / 8
        error = math.sqrt(sum((g - mean) ** 2 for g in gains) / 7 / 8)
        alarms += isinstance(watch(Fresh(Measured(mean, error, 8), Measured(-mean, error, 8)), BAR), RollBack)
    assert alarms / 2000 < 0.06


COUNTS = st.integers(0, 60)
MEANS = st.floats(-3, 3) | st.just(math.nan)
MEASURES = st.builds(Measured, MEANS, st.floats(0, 3) | st.just(math.nan), COUNTS)
BARS = st.builds(Watch, st.integers(1, 20), st.floats(0.5, 0.99), st.floats(0.5, 0.99), st.floats(0, 1))


@given(st.none() | st.builds(Fresh, MEASURES, MEASURES), BARS)
def test_only_a_measured_loss_on_enough_examples_rolls_back(seen, bar):
    answer = watch(seen, bar)
    if not isinstance(answer, Steady):
        assert seen.gain.examples >= bar.min_fresh
    if isinstance(answer, RollBack):
        assert not seen.gain.mean >= 0
    if isinstance(answer, Drifted):
        assert seen.shortfall.mean > 0


@given(st.floats(0.01, 3), st.floats(0.01, 3), st.integers(1, 60), BARS, st.integers(1, 60))
def test_more_examples_of_the_same_loss_never_call_a_roll_back_off(loss, spread, n, bar, more):
    if isinstance(watch(fresh(n, gain=-loss, spread=spread), bar), RollBack):
        assert isinstance(watch(fresh(n + more, gain=-loss, spread=spread), bar), RollBack)


def test_a_drifted_user_begins_anew_only_where_that_serves_what_came_since_better():
    assert isinstance(since(0.9, 0.5), BeginAnew)
    assert isinstance(since(0.5, 0.9), GoOn)
    assert isinstance(since(0.5, math.nan), GoOn)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Watch(min_fresh=0),
        lambda: Watch(certainty=1.0),
        lambda: Watch(drift_certainty=0.0),
        lambda: Watch(se_floor=-1.0),
    ],
)
def test_a_fact_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidFact):
        wrong()
