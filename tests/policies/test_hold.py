"""Which answers are held, and what a held answer names."""

import pytest

from policies.facts import InvalidFact
from policies.hold import Answerable, Doubt, Give, Hold, consider

ANSWER = Answerable({"bad": 0.15, "good": 0.5, "great": 0.35})


def test_by_default_every_answer_is_given():
    assert isinstance(consider(Answerable({"a": 0.34, "b": 0.33, "c": 0.33}), Doubt()), Give)


def test_too_little_confidence_is_held_with_the_likeliest_labels():
    decided = consider(ANSWER, Doubt(min_confidence=0.6, alternatives=2))
    assert isinstance(decided, Hold)
    assert decided.code == "low_confidence"
    assert decided.alternatives == (("good", 0.5), ("great", 0.35))
    assert "0.50" in decided.reason
    assert "0.60" in decided.reason


def test_a_close_call_is_held():
    assert consider(ANSWER, Doubt(min_margin=0.2)).code == "close_call"
    assert isinstance(consider(ANSWER, Doubt(min_margin=0.1)), Give)


def test_at_the_bound_an_answer_is_given():
    assert isinstance(consider(ANSWER, Doubt(min_confidence=0.5)), Give)


def test_no_label_shows_in_a_repr():
    assert "great" not in repr(consider(ANSWER, Doubt(min_confidence=0.9)))
    assert "great" not in repr(ANSWER)


@pytest.mark.parametrize("wrong", [{"min_confidence": 1.5}, {"min_margin": -1}, {"alternatives": 0}])
def test_rules_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InvalidFact):
        Doubt(**wrong)


@pytest.mark.parametrize("wrong", [{}, {"a": float("nan")}, {"a": 2.0}])
def test_what_are_no_probabilities_is_refused(wrong):
    with pytest.raises(InvalidFact):
        Answerable(wrong)
