import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.promotion import Bar, Evidence, Promote, Reject, judge

BAR = Bar(min_examples=4, min_gain=0.02, z=1.0, se_floor=0.2, margin=0.05)
WINNER = Evidence(
    examples=16,
    generic_nll=1.20,
    label_prior_nll=1.10,
    wrong_user_nll=1.25,
    personal_nll=0.80,
    gain_se=0.10,
    generic_accuracy=0.50,
    personal_accuracy=0.75,
)


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (WINNER, "beats_generic"),
        (replace(WINNER, examples=3), "too_little_evidence"),
        (replace(WINNER, personal_nll=1.19), "not_better_than_generic"),
        (replace(WINNER, personal_nll=1.30), "not_better_than_generic"),
        (replace(WINNER, gain_se=0.45), "gain_within_noise"),
        (replace(WINNER, label_prior_nll=0.80), "not_better_than_label_prior"),
        (replace(WINNER, label_prior_nll=0.50), "not_better_than_label_prior"),
        (replace(WINNER, wrong_user_nll=0.84), "matched_by_wrong_user"),
        (replace(WINNER, wrong_user_nll=0.60), "matched_by_wrong_user"),
        (replace(WINNER, personal_nll=math.nan), "not_finite"),
        (replace(WINNER, gain_se=math.inf), "not_finite"),
    ],
)
def test_a_first_version_is_judged_for_this_reason(evidence, code):
    assert judge(evidence, None, BAR).code == code


def test_four_examples_that_agree_are_not_certainty():
    lucky = replace(WINNER, examples=4, gain_se=0.0, personal_nll=1.11)  # gain 0.09; the floor is 0.2 / sqrt(4) = 0.1
    assert judge(lucky, None, BAR) == Reject(
        "0.090 nats per example better than generic may be chance: 0.100", "gain_within_noise"
    )
    assert isinstance(judge(replace(lucky, personal_nll=1.09), None, BAR), Promote)


@pytest.mark.parametrize(
    ("current", "code"),
    [
        (replace(WINNER, personal_nll=0.90), "beats_generic"),
        (WINNER, "beats_generic"),
        (replace(WINNER, personal_nll=0.79), "worse_than_current"),
        (replace(WINNER, examples=15), "not_comparable"),
        (replace(WINNER, personal_nll=math.nan), "not_finite"),
    ],
)
def test_a_new_version_is_not_worse_than_the_current_one(current, code):
    assert judge(WINNER, current, BAR).code == code


def test_the_reason_tells_how_much_better():
    expected = "0.400 nats per example better than generic on 16 held-out examples (accuracy 0.500 -> 0.750)"
    assert judge(WINNER, None, BAR) == Promote(expected, "beats_generic")


def test_a_tie_with_a_wrong_user_loses_even_without_a_margin():
    assert judge(replace(WINNER, wrong_user_nll=0.80), None, replace(BAR, margin=0.0)).code == "matched_by_wrong_user"


NLLS = st.floats(0, 10) | st.sampled_from([math.nan, math.inf, -math.inf])
SHARES = st.floats(0, 1) | st.just(math.nan)
BARS = st.builds(Bar, st.integers(1, 20), st.floats(0, 1), st.floats(0, 4), st.floats(0, 2), st.floats(0, 1))


def evidences(nlls: st.SearchStrategy[float], shares: st.SearchStrategy[float]) -> st.SearchStrategy[Evidence]:
    ses = st.floats(0, 5)
    return st.builds(Evidence, st.integers(0, 40), nlls, nlls, nlls, nlls, ses, shares, shares)


FINITE = evidences(st.floats(0, 10), st.floats(0, 1))
ANY = evidences(NLLS, SHARES)


@given(ANY, st.none() | ANY, BARS)
def test_what_is_promoted_won_against_everyone(evidence, current, bar):
    if isinstance(judge(evidence, current, bar), Promote):
        nll = evidence.personal_nll
        assert evidence.examples >= bar.min_examples
        assert evidence.generic_nll - nll >= bar.min_gain
        assert evidence.generic_nll - nll > bar.z * evidence.gain_se
        assert nll < evidence.generic_nll or bar.z == bar.min_gain == 0
        assert nll < evidence.label_prior_nll
        assert nll < evidence.wrong_user_nll
        assert current is None or nll <= current.personal_nll


@given(FINITE, BARS)
def test_what_is_rejected_failed_somewhere(evidence, bar):
    answer = judge(evidence, None, bar)
    if isinstance(answer, Reject):
        floor = bar.se_floor / math.sqrt(max(evidence.examples, 1))
        assert (
            evidence.examples < bar.min_examples
            or evidence.gain < bar.min_gain
            or evidence.gain <= bar.z * max(evidence.gain_se, floor)
            or evidence.personal_nll >= evidence.label_prior_nll
            or evidence.wrong_user_nll - evidence.personal_nll < bar.margin
            or evidence.wrong_user_nll <= evidence.personal_nll
        )


MEASURES = [field.name for field in fields(Evidence) if field.name != "examples"]


@given(FINITE, st.sampled_from(MEASURES), st.sampled_from([math.nan, math.inf, -math.inf]), BARS)
def test_one_measure_that_is_not_finite_is_enough_to_reject(evidence, measure, value, bar):
    assert judge(replace(evidence, **{measure: value}), None, bar).code == "not_finite"


@given(st.floats(0, 5), st.integers(1, 40), BARS)
def test_a_version_that_is_the_generic_model_is_never_promoted(nll, examples, bar):
    same = Evidence(examples, nll, nll + 9, nll + 9, nll, 0.0, 0.5, 0.5)
    assert isinstance(judge(same, None, bar), Reject)


@given(FINITE, FINITE, BARS, st.sampled_from(["generic_nll", "label_prior_nll", "wrong_user_nll"]), st.floats(0, 5))
def test_worse_controls_never_undo_a_promotion(evidence, current, bar, control, more):
    if isinstance(judge(evidence, current, bar), Promote):
        worse = replace(evidence, **{control: getattr(evidence, control) + more})
        assert isinstance(judge(worse, current, bar), Promote)


@given(FINITE, BARS, st.integers(1, 100))
def test_more_examples_that_say_the_same_never_undo_a_promotion(evidence, bar, more):
    if isinstance(judge(evidence, None, bar), Promote):
        assert isinstance(judge(replace(evidence, examples=evidence.examples + more), None, bar), Promote)


@given(FINITE, FINITE, BARS)
def test_a_current_version_only_raises_the_bar(evidence, current, bar):
    if isinstance(judge(evidence, current, bar), Promote):
        assert isinstance(judge(evidence, None, bar), Promote)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: replace(WINNER, examples=-1),
        lambda: replace(WINNER, gain_se=-0.1),
        lambda: Bar(min_examples=0),
        lambda: Bar(z=-1.0),
        lambda: Bar(margin=math.nan),
    ],
)
def test_a_fact_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidFact):
        wrong()
