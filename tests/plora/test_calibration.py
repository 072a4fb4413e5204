"""Confidence that is true: of answers that are sure to .8, four in five are right."""

import math
import random

import pytest

from plora import Calibration, InvalidSetting, calibrate, expected_error


def crowd(temperature: float, count: int = 4_000, seed: int = 3):
    """Answers whose probabilities are right after dividing their logits by `temperature`."""
    draw = random.Random(seed)
    answers = []
    for _ in range(count):
        logits = [draw.gauss(0, 1.5) for _ in range(3)]
        right = draw.choices(range(3), [math.exp(each) for each in logits])[0]
        loud = [math.exp(each * temperature) for each in logits]
        answers.append(([each / sum(loud) for each in loud], right))
    return answers


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoiled_answers_is_found(temperature):
    answers = crowd(temperature)
    found = calibrate(answers)
    assert found.temperature == pytest.approx(temperature, rel=0.07)
    assert found.answers == len(answers)


def test_calibrated_answers_are_right_as_often_as_they_say():
    answers = crowd(3.0)
    found = calibrate(answers[:2_000])

    def gap(of) -> float:
        told = [(list(of(dict(enumerate(chances))).values()), right) for chances, right in answers[2_000:]]
        return expected_error([(max(each), each.index(max(each)) == right) for each, right in told])

    assert gap(dict) > 0.15
    assert gap(found.of) < 0.04


def test_the_likeliest_label_stays_and_shares_sum_to_one():
    chances = {"a": 0.7, "b": 0.2, "c": 0.1}
    for temperature in (0.1, 1.0, 7.0):
        found = Calibration(temperature).of(chances)
        assert max(found, key=found.get) == "a"
        assert sum(found.values()) == pytest.approx(1)
    assert Calibration().of(chances) == chances
    assert Calibration(2.0).of({"a": 1.0, "b": 0.0})["a"] > 0.99


def test_without_answers_nothing_changes_and_nonsense_is_refused():
    assert calibrate([]) == Calibration()
    assert math.isnan(expected_error([]))
    with pytest.raises(InvalidSetting, match="temperature"):
        Calibration(0.0)
