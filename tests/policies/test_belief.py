"""What is believed of a measured gain lies between it and what users of the Basis gain."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.belief import Belief, Expected, Measured, believe, spread

MEANS, SPREADS, COUNTS = st.floats(-3, 3), st.floats(0.01, 2), st.integers(1, 100)
FLOORS = st.floats(0, 1)
MEASURED = st.builds(Measured, MEANS, SPREADS, COUNTS)


def test_four_examples_are_believed_less_than_sixty_four():
    few, many = (believe(Measured(0.2, 0.8 / math.sqrt(n), n), 0.0, 0.15, 0.2) for n in (4, 64))
    assert (few.mean, few.certainty) == (pytest.approx(0.025, abs=0.002), pytest.approx(0.57, abs=0.01))
    assert (many.mean, many.certainty) == (pytest.approx(0.138, abs=0.002), pytest.approx(0.95, abs=0.01))


def test_what_users_gain_makes_little_evidence_surer():
    measured = Measured(0.1, 0.15, 6)
    assert believe(measured, 0.0, 0.15, 0.2).certainty < 0.8
    assert believe(measured, 0.15, 0.15, 0.2).certainty > 0.8


def test_four_differences_that_agree_are_not_certainty():
    lucky = Measured(0.09, 0.0, 4)
    assert lucky.noise(0.2) == 0.1
    assert believe(lucky, 0.0, 0.15, 0.2).certainty < 0.8


@pytest.mark.parametrize(("mean", "certainty"), [(1.0, 1.0), (-1.0, 0.0), (0.0, 0.5)])
def test_without_any_noise_the_sign_decides(mean, certainty):
    assert Belief(mean, 0.0).certainty == certainty


def test_spreads_too_small_to_be_squared_are_no_trouble():
    assert believe(Measured(0.5, 1e-200, 4), 0.0, 0.0, 0.0).mean == 0.0
    assert believe(Measured(0.5, 1e-200, 4), 0.0, 1e-200, 0.0).mean == pytest.approx(0.25)


def test_nothing_measured_leaves_what_was_expected():
    assert believe(Measured(math.nan, math.nan, 0), 0.1, 0.2, 0.2) == Belief(0.1, 0.2)


@given(MEASURED, MEANS, SPREADS, FLOORS)
def test_a_belief_lies_between_what_was_measured_and_what_was_expected(measured, expected, sd, floor):
    belief = believe(measured, expected, sd, floor)
    assert min(measured.mean, expected) - 1e-9 <= belief.mean <= max(measured.mean, expected) + 1e-9
    assert belief.sd <= min(sd, measured.noise(floor)) + 1e-9
    assert 0.0 <= belief.certainty <= 1.0


@given(MEASURED, SPREADS, FLOORS, st.integers(2, 50))
def test_the_same_difference_over_more_examples_is_believed_more(measured, sd, floor, times):
    more = Measured(measured.mean, measured.se / math.sqrt(times), measured.examples * times)
    few, many = (believe(each, 0.0, sd, floor) for each in (measured, more))
    assert abs(many.mean) >= abs(few.mean) - 1e-12
    assert abs(many.certainty - 0.5) >= abs(few.certainty - 0.5) - 1e-12


@given(MEASURED, MEANS, SPREADS, st.floats(0, 2))
def test_a_larger_gain_is_never_less_certain(measured, expected, sd, more):
    less = believe(measured, expected, sd, 0.2)
    larger = replace(measured, mean=measured.mean + more)
    assert believe(larger, expected, sd, 0.2).certainty >= less.certainty - 1e-12


@given(st.lists(MEANS, min_size=20, max_size=60))
def test_the_true_spread_is_no_less_than_the_least_and_no_more_than_what_was_observed(means):
    count, found = len(means), [Measured(mean, 0.1, 8) for mean in means]
    told, true = spread(found, 0.02)
    observed = math.sqrt(sum((each.mean - told) ** 2 for each in found) / (count - 1))
    assert 0.02 <= true <= max(0.02, observed) + 1e-9
    assert told == pytest.approx(sum(each.mean for each in found) / count)


def test_the_true_spread_is_found_behind_the_noise():
    draw = random.Random(3)
    found = [Measured(draw.gauss(0.1, 0.2) + draw.gauss(0, 0.3), 0.3, 8) for _ in range(2000)]
    assert spread(found, 0.02) == (pytest.approx(0.1, abs=0.02), pytest.approx(0.2, abs=0.02))


def test_users_who_only_differ_by_noise_are_taken_for_alike():
    found = [Measured(0.1 + 0.05 * (-1) ** i, 0.3, 8) for i in range(40)]
    assert spread(found, 0.02) == (pytest.approx(0.1), 0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Measured(0.1, -0.1, 4),
        lambda: Measured(0.1, 0.1, -1),
        lambda: Expected(gain_sd=-0.1),
        lambda: Expected(gain=math.nan),
        lambda: Expected(lead_sd=math.inf),
    ],
)
def test_a_fact_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidFact):
        wrong()
