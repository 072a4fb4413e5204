import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.belief import Expected, Measured
from policies.promotion import Bar, Contender, Evidence, Part, Promote, Reject, expect, judge

BAR = Bar()
WINNER = Evidence(
    examples=16,
    generic_nll=1.20,
    label_prior_nll=1.10,
    wrong_user_nll=1.25,
    personal_nll=0.80,
    gain_se=0.10,
    lead=0.20,
    lead_se=0.08,
    generic_accuracy=0.50,
    personal_accuracy=0.75,
)
ALONE = replace(WINNER, personal_nll=1.00, lead=0.20)  # the label bias


def whole(evidence: Evidence, **more: object) -> Contender:
    return Contender(Part.WHOLE, evidence, **more)


def alone(evidence: Evidence, **more: object) -> Contender:
    return Contender(Part.LABEL_BIAS, evidence, **more)


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (WINNER, "beats_generic"),
        (replace(WINNER, examples=3), "too_little_evidence"),
        (replace(WINNER, examples=0, personal_nll=math.nan), "too_little_evidence"),
        (replace(WINNER, personal_nll=1.199), "not_better_than_generic"),
        (replace(WINNER, personal_nll=1.30), "not_better_than_generic"),
        (replace(WINNER, gain_se=0.45, personal_nll=1.0), "gain_within_noise"),
        (replace(WINNER, label_prior_nll=0.75), "beats_generic"),
        (replace(WINNER, label_prior_nll=0.50), "not_better_than_label_prior"),
        (replace(WINNER, wrong_user_nll=0.80), "matched_by_wrong_user"),
        (replace(WINNER, wrong_user_nll=0.60), "matched_by_wrong_user"),
        (replace(WINNER, lead=-0.05), "content_adds_nothing"),
        (replace(WINNER, lead=math.nan, lead_se=math.nan), "beats_generic"),
        (replace(WINNER, personal_nll=math.nan), "not_finite"),
        (replace(WINNER, gain_se=math.inf), "not_finite"),
        (replace(WINNER, generic_accuracy=math.nan), "beats_generic"),
    ],
)
def test_a_first_version_is_judged_for_this_reason(evidence, code):
    assert judge([whole(evidence)], BAR).code == code


def test_the_same_gain_is_judged_by_how_many_examples_say_so():
    def says(n: int) -> Evidence:
        return replace(WINNER, examples=n, personal_nll=1.10, lead=0.1, gain_se=0.5 / math.sqrt(n))

    assert judge([whole(says(4))], BAR).code == "gain_within_noise"
    assert judge([whole(says(64))], BAR).code == "beats_generic"


def test_four_examples_that_agree_are_not_certainty():
    lucky = replace(WINNER, examples=4, gain_se=0.0, personal_nll=1.16)  # gain 0.04; the floor is 0.2 / sqrt(4) = 0.1
    answer = judge([whole(lucky)], BAR)
    assert answer.code == "gain_within_noise"
    assert "0.040 nats per example better than generic on 4 examples, believed 0.028 +- 0.083: 0.63" in answer.reason


def test_where_users_gain_much_a_little_evidence_is_enough_and_where_they_lose_it_is_not():
    little = replace(WINNER, examples=4, gain_se=0.15, personal_nll=1.10)
    assert judge([whole(little)], BAR).code == "gain_within_noise"
    assert judge([whole(little, expected=Expected(0.2, 0.15, 0.1, 0.1))], BAR).code == "beats_generic"
    assert judge([whole(little, expected=Expected(-0.2, 0.05))], BAR).code == "not_better_than_generic"


def test_what_others_gain_never_stands_in_for_a_gain():
    nothing = replace(WINNER, personal_nll=1.20)
    assert judge([whole(nothing, expected=Expected(0.5, 0.01, 0.5, 0.01))], BAR).code == "not_better_than_generic"


def test_where_content_adds_nothing_the_label_bias_serves_alone():
    answer = judge([whole(replace(WINNER, lead=-0.2)), alone(ALONE)], BAR)
    assert (answer.code, answer.part) == ("label_bias_beats_generic", Part.LABEL_BIAS)
    assert answer.reason == "the label bias alone is 0.200 nats per example better than generic on 16 examples, " + (
        "believed 0.138 +- 0.083, 0.95 certain"
    )


def test_a_label_bias_is_not_asked_for_content():
    stranger = replace(ALONE, wrong_user_nll=0.5, lead=math.nan)
    assert judge([whole(replace(WINNER, lead=-0.2)), alone(stranger)], BAR).code == "label_bias_beats_generic"


def test_where_neither_wins_the_reason_tells_of_both():
    answer = judge([whole(replace(WINNER, lead=-0.2)), alone(replace(ALONE, personal_nll=1.3))], BAR)
    assert answer.code == "content_adds_nothing"
    assert "content adds" in answer.reason
    assert "label_bias: -0.100 nats per example better than generic" in answer.reason


@pytest.mark.parametrize(
    ("worse", "code"),
    [
        (None, "beats_generic"),
        (Measured(math.nan, math.nan, 0), "beats_generic"),
        (Measured(-0.3, 0.1, 8), "beats_generic"),
        (Measured(0.05, 0.1, 8), "beats_generic"),
        (Measured(0.30, 0.1, 8), "worse_than_current"),
        (Measured(0.30, math.nan, 1), "worse_than_current"),
        (Measured(0.10, math.nan, 1), "beats_generic"),
        (Measured(math.nan, 0.1, 8), "not_finite"),
    ],
)
def test_a_new_version_is_not_surely_worse_than_the_current_one_on_what_neither_learnt(worse, code):
    assert judge([whole(WINNER, worse=worse)], BAR).code == code


@pytest.mark.parametrize(
    ("moved", "code"),
    [(0.1, "beats_generic"), (2.5, "moved_too_far"), (math.nan, "not_finite"), (None, "beats_generic")],
)
def test_a_new_version_moves_the_answers_only_so_far(moved, code):
    assert judge([whole(WINNER, moved=moved)], BAR).code == code


def test_the_reason_tells_how_much_better():
    expected = "0.400 nats per example better than generic on 16 examples, believed 0.277 +- 0.083, 1.00 certain"
    assert judge([whole(WINNER)], BAR) == Promote(expected, "beats_generic")


def test_what_users_gain_is_learnt_from_twenty_of_them():
    found = [replace(WINNER, personal_nll=1.2 - 0.05 * (i % 5)) for i in range(20)]
    told = expect(found, BAR)
    assert (told.gain, told.lead) == (pytest.approx(0.1), pytest.approx(0.2))
    assert told.gain_sd == BAR.least_sd
    assert expect(found[:19], BAR) == BAR.neutral
    assert expect([*found[:19], replace(WINNER, examples=3)], BAR) == BAR.neutral
    assert expect([*found[:19], replace(WINNER, personal_nll=math.nan)], BAR) == BAR.neutral


NLLS = st.floats(0, 10) | st.sampled_from([math.nan, math.inf, -math.inf])
SHARES = st.floats(0, 1) | st.just(math.nan)
UNIT = st.floats(0.01, 0.99)
SMALL = st.floats(0, 1)
BARS = st.builds(Bar, st.integers(1, 20), SMALL, UNIT, UNIT, SMALL, st.floats(0, 2), st.floats(0, 5))
EXPECTATIONS = st.builds(Expected, st.floats(-1, 1), SMALL, st.floats(-1, 1), SMALL)


def evidences(nlls: st.SearchStrategy[float], ses: st.SearchStrategy[float]) -> st.SearchStrategy[Evidence]:
    leads = st.floats(-3, 3)
    return st.builds(Evidence, st.integers(0, 40), nlls, nlls, nlls, nlls, ses, leads, ses, SHARES, SHARES)


FINITE = evidences(st.floats(0, 10), st.floats(0, 5))
HUGE = st.sampled_from([1e200, -1e300])
ANY = evidences(NLLS | HUGE, st.floats(0, 5) | st.sampled_from([math.nan, math.inf]))
WORSE = st.none() | st.builds(Measured, st.floats(-3, 3) | st.just(math.nan), st.floats(0, 3), st.integers(0, 40))
MOVED = st.none() | st.floats(0, 6) | st.just(math.nan)
CONTENDERS = st.builds(Contender, st.sampled_from(Part), ANY, EXPECTATIONS, WORSE, MOVED)
SOUND = st.builds(Contender, st.sampled_from(Part), FINITE, EXPECTATIONS)


@given(CONTENDERS, BARS)
def test_what_is_promoted_won_against_everyone(contender, bar):
    answer = judge([contender], bar)
    if isinstance(answer, Promote):
        evidence, belief = contender.evidence, bar.gain(contender)
        assert answer.part is contender.part
        assert evidence.examples >= bar.min_examples
        assert evidence.personal_nll < evidence.generic_nll
        assert belief.mean >= bar.min_gain
        assert belief.certainty >= bar.certainty
        assert evidence.personal_nll - evidence.label_prior_nll <= evidence.gained.noise(bar.se_floor)
        assert contender.moved is None or contender.moved <= bar.max_moved
        if contender.part is Part.WHOLE:
            assert evidence.personal_nll < evidence.wrong_user_nll
            assert math.isnan(evidence.lead) or bar.lead(contender).certainty >= bar.lead_certainty


@given(st.lists(CONTENDERS, min_size=1, max_size=3), BARS)
def test_the_first_that_clears_the_bar_by_itself_is_promoted(contenders, bar):
    alone_each = [judge([each], bar) for each in contenders]
    won = next((answer for answer in alone_each if isinstance(answer, Promote)), None)
    together = judge(contenders, bar)
    assert together == won if won else isinstance(together, Reject)
    assert together.code == (won or alone_each[0]).code


MEASURES = ["generic_nll", "label_prior_nll", "wrong_user_nll", "personal_nll"]


@given(SOUND, st.sampled_from(MEASURES), st.sampled_from([math.nan, math.inf, -math.inf]), BARS)
def test_one_measure_that_is_not_finite_is_enough_to_reject(contender, measure, value, bar):
    broken = replace(contender, evidence=replace(contender.evidence, **{measure: value}))
    assert judge([broken], bar).code in {"not_finite", "too_little_evidence"}


@given(st.floats(0, 5), st.integers(1, 40), st.sampled_from(Part), EXPECTATIONS, BARS)
def test_a_version_that_is_the_generic_model_is_never_promoted(nll, examples, part, expected, bar):
    same = Evidence(examples, nll, nll + 9, nll + 9, nll, 0.0, 9.0, 0.0)
    assert isinstance(judge([Contender(part, same, expected)], bar), Reject)


@given(SOUND, BARS, st.sampled_from(["generic_nll", "label_prior_nll", "wrong_user_nll", "lead"]), st.floats(0, 5))
def test_worse_controls_never_undo_a_promotion(contender, bar, control, more):
    if isinstance(judge([contender], bar), Promote):
        worse = replace(contender.evidence, **{control: getattr(contender.evidence, control) + more})
        assert isinstance(judge([replace(contender, evidence=worse)], bar), Promote)


@given(FINITE, BARS, st.integers(1, 100))
def test_more_examples_that_say_the_same_never_undo_a_promotion(evidence, bar, more):
    """Where nothing better is expected of users in general, and the label prior is no closer than chance."""
    if isinstance(judge([whole(evidence)], bar), Promote) and evidence.personal_nll <= evidence.label_prior_nll:
        surer = replace(evidence, examples=evidence.examples + more)
        assert isinstance(judge([whole(surer)], bar), Promote)


@given(SOUND, WORSE, MOVED, BARS)
def test_a_current_version_only_raises_the_bar(contender, worse, moved, bar):
    if isinstance(judge([replace(contender, worse=worse, moved=moved)], bar), Promote):
        assert isinstance(judge([contender], bar), Promote)


@given(st.lists(ANY, max_size=40), BARS)
def test_what_is_expected_is_always_a_number(found, bar):
    assert all(math.isfinite(getattr(expect(found, bar), field.name)) for field in fields(Expected))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: replace(WINNER, examples=-1),
        lambda: replace(WINNER, gain_se=-0.1),
        lambda: Bar(min_examples=0),
        lambda: Bar(certainty=1.0),
        lambda: Bar(lead_certainty=-1.0),
        lambda: Bar(margin=math.nan),
        lambda: Bar(expected_users=1),
        lambda: judge([], BAR),
    ],
)
def test_a_fact_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidFact):
        wrong()
