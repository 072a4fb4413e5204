"""The benchmark's intervals and tables."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fit.report import markdown, number
from benchmarks.fit.rows import Row
from benchmarks.fit.stats import bootstrap, median, paired

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    draw = random.Random(0)
    covered = 0
    for seed in range(200):
        found = bootstrap([draw.gauss(1.0, 2.0) for _ in range(40)], seed, draws=500)
        covered += found.low <= 1.0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_pairs_remove_what_users_have_in_common():
    draw = random.Random(1)
    theirs = [draw.gauss(0, 5) for _ in range(50)]
    ours = [value - 0.5 + draw.gauss(0, 0.1) for value in theirs]
    apart, together = bootstrap(ours, 0), paired(ours, theirs, 0)
    assert together.high - together.low < 0.05 * (apart.high - apart.low)
    assert together.low <= -0.5 <= together.high


@given(VALUES)
def test_the_mean_lies_within_its_interval(values):
    found = bootstrap(values, 0, draws=200)
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9 or min(values) == max(values) or len(values) < 5


def test_the_same_seed_gives_the_same_interval():
    assert bootstrap([1.0, 2.0, 4.0], 7) == bootstrap([1.0, 2.0, 4.0], 7)


def test_one_user_has_a_mean_and_no_interval():
    found = bootstrap([2.0], 0)
    assert found.mean == 2.0
    assert math.isnan(found.low)


def test_no_users_and_users_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="no users"):
        bootstrap([], 0)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired([1.0], [1.0, 2.0], 0)


def test_the_median_of_an_even_number_lies_between():
    assert median([1.0, 4.0, 2.0, 8.0]) == 3.0


def test_a_table_leaves_out_what_nobody_has_and_shows_no_nan():
    row = Row(part="frontier", mode="newton", users=3, examples_per_user=16, users_per_s=12.345, nll=0.5)
    text = markdown([row], {})
    assert "peak MB" not in text
    assert "nan" not in text.lower()
    assert "12.3" in text


def test_numbers_have_three_digits():
    assert [number(None), number(float("nan")), number(0.012345), number(12345.6)] == ["", "", "0.0123", "12,346"]
