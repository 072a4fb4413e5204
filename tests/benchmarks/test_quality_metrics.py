"""Measures against values worked out by hand, and intervals that hold what they promise."""

import math
import random

import numpy as np
import pytest
import torch

from benchmarks.quality.bootstrap import Bootstrap, Draws
from benchmarks.quality.metrics import FLOOR, Told, WrongAnswer, macro_f1, measure, tell, told, verdict
from plora import Example

LABELS = ("1", "2", "3")


def chances(*rows):
    return torch.tensor(rows, dtype=torch.float64).log()


def asked(*labels):
    return [Example("text", label) for label in labels]


def one(said, *labels, names=LABELS):
    return told(("user", 4), asked(*labels), said, names, len(LABELS))


def test_measures_of_three_tests_are_those_of_a_hand():
    said = chances([0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.25, 0.25])
    found = measure(one(said, "1", "2", "3"), (1.0, 2.0, 3.0))
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.nll == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.25)) / 3, abs=1e-5)
    assert found.rmse == pytest.approx(math.sqrt((0 + 1 + 4) / 3))  # guesses 1, 3, 1
    # label 1: 2 * 1 / (1 true + 2 guessed); labels 2 and 3 are never right
    assert found.macro_f1 == pytest.approx((2 / 3 + 0 + 0) / 3)
    # ten bins of equal width: 0.5 in the fifth, 0.6 in the sixth, 0.7 in the seventh
    assert found.bins[:, 0].tolist() == pytest.approx([0, 0, 0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0])
    assert found.bins[6].tolist() == pytest.approx([1 / 3, 0.7 / 3, 1 / 3])
    assert found.bins[4].tolist() == pytest.approx([1 / 3, 0.5 / 3, 0])


def test_rmse_is_only_of_grades():
    assert math.isnan(measure(one(chances([0.7, 0.2, 0.1]), "1"), None).rmse)


def test_a_label_that_only_tests_have_costs_everybody_the_same():
    sure, unsure = chances([0.98, 0.01, 0.01]), chances([0.4, 0.3, 0.3])
    found = [measure(one(said, "4", names=(*LABELS, "4")), (1, 2, 3, 4)) for said in (sure, unsure)]
    assert [each.nll for each in found] == pytest.approx([-math.log(FLOOR)] * 2, abs=1e-4)
    assert [each.accuracy for each in found] == [0, 0]
    assert found[0].rmse == 3


def test_no_answer_costs_more_than_the_floor():
    impossible = torch.tensor([[0.0, -math.inf, -math.inf]], dtype=torch.float64)
    assert measure(one(impossible, "2"), None).nll == pytest.approx(-math.log(FLOOR), abs=1e-4)


def test_draws_are_averaged_after_they_are_measured():
    draws = torch.stack([chances([0.8, 0.1, 0.1], [0.8, 0.1, 0.1]), chances([0.2, 0.7, 0.1], [0.2, 0.7, 0.1])])
    found = measure(one(draws, "1", "2"), (1, 2, 3))
    assert found.accuracy == pytest.approx(0.5)
    losses = -np.log([0.8, 0.1, 0.2, 0.7])
    assert found.nll == pytest.approx(losses.mean(), abs=1e-5)
    assert found.macro_f1 == pytest.approx(1 / 3)
    assert found.bins[:, 0].sum() == pytest.approx(1)


def test_wrong_answers_are_refused():
    with pytest.raises(WrongAnswer, match="shape"):
        tell(chances([0.5, 0.5]), [0], 3)
    with pytest.raises(WrongAnswer, match="sum to one"):
        tell(torch.zeros(1, 3, dtype=torch.float64), [0], 3)
    with pytest.raises(WrongAnswer, match="sum to one"):
        tell(torch.full((1, 3), math.nan, dtype=torch.float64), [0], 3)


def test_macro_f1_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    for _ in range(20):
        truth, guess = draw.integers(0, 4, 9), draw.integers(0, 4, 9)
        wanted = metrics.f1_score(truth, guess, average="macro", zero_division=0)
        assert macro_f1(truth, guess) == pytest.approx(wanted)


def test_a_verdict_needs_more_than_two_standard_errors_and_a_thousandth_of_a_nat():
    assert verdict([1.0, 1.1, 0.9, 1.0], [2.0, 2.0, 2.1, 1.9]) == 1
    assert verdict([2.0, 2.0, 2.1, 1.9], [1.0, 1.1, 0.9, 1.0]) == -1
    assert verdict([1.0, 2.0, 3.0], [1.5, 1.0, 3.6]) == 0
    assert verdict([1.0, 1.0], [1.0005, 1.0005]) == 0
    assert verdict([1.0], [5.0]) == 0
    # gains 0, 0.2: mean 0.1, standard error 0.1: within 1.96 of them
    assert verdict([1.0, 1.0], [1.0, 1.2]) == 0


def test_what_a_person_was_told_survives_json():
    found = one(chances([0.7, 0.2, 0.1]), "1")
    assert Told.from_dict({name: _listed(value) for name, value in found.to_dict().items()}) == found


def _listed(value):
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    draw = np.random.default_rng(0)
    draws = Draws(40, 0, 500)
    found = [draws.mean(draw.normal(1.0, 2.0, 40)) for _ in range(300)]
    assert 0.88 <= np.mean([each.low <= 1.0 <= each.high for each in found]) <= 0.99


def test_the_interval_of_a_ratio_covers_it_too():
    draw = np.random.default_rng(1)
    draws = Draws(60, 0, 500)
    covered = []
    for _ in range(200):
        below = draw.normal(1.0, 0.5, 60)
        found = draws.ratio(0.7 * below + draw.normal(0, 0.2, 60), below)
        covered.append(found.low <= 0.7 <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_what_is_compared_is_drawn_alike():
    draw = random.Random(1)
    theirs = np.array([draw.gauss(0, 5) for _ in range(50)])
    ours = theirs - 0.5
    bootstrap = Bootstrap(0, 500)
    assert bootstrap.of(50) is bootstrap.of(50)
    apart, together = bootstrap.of(50).mean(ours), bootstrap.of(50).mean(ours - theirs)
    assert together.high - together.low < 1e-9
    assert apart.high - apart.low > 1


def test_a_ratio_is_of_those_who_are_there_and_of_nothing_where_there_is_no_gain():
    draws, nan = Draws(4, 0, 200), math.nan
    assert draws.ratio(np.array([1.0, 3.0, nan, nan]), np.array([nan, nan, 4.0, 4.0])).mean == pytest.approx(0.5)
    assert math.isnan(draws.ratio(np.ones(4), np.array([-1.0, -1.0, 0.0, 1.0])).mean)
    shaky = draws.ratio(np.ones(4), np.array([-1.0, 2.0, -1.0, 2.0]))
    assert shaky.mean == pytest.approx(2.0)
    assert math.isnan(shaky.low)


def test_calibration_is_that_of_a_hand():
    bins = np.zeros((2, 10, 3))
    bins[0, 8] = (1.0, 0.85, 0.5)  # sure of 0.85, right half the time
    bins[1, 5] = (1.0, 0.55, 0.65)
    assert Draws(2, 0, 100).calibration(bins).mean == pytest.approx(0.5 * 0.35 + 0.5 * 0.1)


def test_one_user_has_no_interval_and_none_is_refused():
    found = Draws(1, 0, 10).mean(np.array([2.0]))
    assert found.mean == 2.0
    assert math.isnan(found.low)
    with pytest.raises(ValueError, match="no users"):
        Draws(0, 0, 10)
