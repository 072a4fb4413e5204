"""Going on from statistics, and when not."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.refit import Full, Growth, Refit, how
from policies.selection import Budget, Candidate, Selection, what

START = datetime(2026, 3, 1, tzinfo=UTC)


def selection(learn, judged=None) -> Selection:
    return Selection("chosen", "selected", tuple(learn), tuple(learn if judged is None else judged))


def test_new_examples_go_on_from_the_covered_ones_in_the_order_of_selection():
    decision = how(selection([9, 3, 7, 1, 2, 4]), [4, 3, 2, 1], Growth())
    assert isinstance(decision, Refit)
    assert (decision.covered, decision.new) == ((3, 1, 2, 4), (9, 7))


@pytest.mark.parametrize(
    ("learn", "covered", "growth", "code"),
    [
        ([1, 2, 3], [], Growth(), "no_statistics"),
        ([1, 2, 3], [1, 2, 4], Growth(), "example_dropped"),
        ([1, 2, 3, 4], [1, 2], Growth(), "too_much_new"),
        ([1, 2, 3], [1, 2], Growth(most_new=0.0), "refits_off"),
    ],
)
def test_a_fit_begins_anew(learn, covered, growth, code):
    decision = how(selection(learn), covered, growth)
    assert isinstance(decision, Full)
    assert decision.code == code


def test_a_new_example_that_the_basis_has_seen_cannot_judge_and_begins_anew():
    assert how(selection([1, 2, 3, 4], judged=[1, 2, 3]), [1, 2, 3], Growth()).code == "new_is_seen"
    assert how(selection([1, 2, 3, 4], judged=[3, 4]), [1, 2, 3], Growth()).code == "goes_on"


@pytest.mark.parametrize("most_new", [-0.1, 1.5, float("nan")])
def test_a_growth_that_means_nothing_is_refused(most_new):
    with pytest.raises(InvalidFact):
        Growth(most_new=most_new)


def candidates(labels: str, learnt=frozenset()) -> list[Candidate]:
    def key(value: object) -> bytes:
        return hashlib.sha256(repr(value).encode()).digest()

    return [
        Candidate(i, key(i), key(label), START + timedelta(minutes=i), i in learnt) for i, label in enumerate(labels)
    ]


@given(st.text("ab", min_size=9, max_size=40), st.text("abc", min_size=1, max_size=16))
def test_what_was_learnt_is_learnt_from_again_while_there_is_room(before, after):
    first = what(candidates(before), Budget())
    then = what(candidates(before + after, frozenset(first.learn)), Budget())
    assert set(first.learn) <= set(then.learn)
    assert set(first.judged) <= set(then.judged)


def test_beyond_the_budget_the_oldest_are_dropped_and_the_fit_begins_anew():
    first = what(candidates("ab" * 32), Budget())
    then = what(candidates("ab" * 33, frozenset(first.learn)), Budget())
    assert how(then, first.learn, Growth()).code == "example_dropped"
