from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.attempts import Dead, Failure, Patience, Retry, Tries, Try, after, before

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE = Patience()
PATIENCES = st.builds(
    Patience,
    max_errors=st.integers(2, 9),
    max_crashes=st.integers(2, 9),
    first_pause_s=st.floats(0, 60),
    longest_pause_s=st.floats(60, 3600),
)


def tries(errors: int = 0, crashes: int = 0, run: int = 1) -> Tries:
    return Tries(run, claims=errors + crashes + 1, errors=errors, crashes=crashes)


def pause_s(decision: Retry) -> float:
    return (decision.at - NOON).total_seconds()


@pytest.mark.parametrize(
    ("failure", "past", "kind", "code"),
    [
        (Failure.ERROR, tries(), Retry, "failed"),
        (Failure.ERROR, tries(errors=3), Retry, "failed"),
        (Failure.ERROR, tries(errors=4), Dead, "too_many_errors"),
        (Failure.ERROR, tries(errors=3, crashes=2), Retry, "failed"),
        (Failure.CRASH, tries(crashes=1), Retry, "failed"),
        (Failure.CRASH, tries(crashes=2), Dead, "too_many_crashes"),
        (Failure.CRASH, tries(errors=4, crashes=1), Retry, "failed"),
        (Failure.ABSENCE, tries(errors=4, crashes=2), Retry, "absent"),
        (Failure.HOPELESS, tries(), Dead, "hopeless"),
    ],
)
def test_five_errors_or_three_crashes_end_a_run(failure, past, kind, code):
    decision = after(failure, past, PATIENCE, NOON)
    assert isinstance(decision, kind)
    assert decision.code == code


def test_a_run_whose_lease_ran_out_three_times_is_not_tried_again():
    assert before(tries(crashes=3), PATIENCE, 256).code == "lease_ran_out"
    assert before(tries(crashes=2), PATIENCE, 256).company == 1


@pytest.mark.parametrize(
    ("most", "companies"), [(2, [64, 1]), (3, [64, 64, 1]), (4, [64, 64, 32, 1]), (6, [64, 64, 32, 16, 8, 1])]
)
def test_crashes_shrink_the_company_to_nobody(most, companies):
    patience = Patience(max_crashes=most)
    assert [before(tries(crashes=crashes), patience, 64).company for crashes in range(most)] == companies
    patience = Patience(max_errors=most)
    assert [before(tries(errors=errors), patience, 64).company for errors in range(most)] == companies


@given(PATIENCES, st.integers(1, 4096), st.sampled_from([Failure.ERROR, Failure.CRASH]), st.integers(1, 10**6))
def test_every_run_ends_and_its_last_chance_is_alone(patience, users, failure, run):
    past, alone = tries(run=run), False
    for _ in range(patience.max_errors + patience.max_crashes):
        begun = before(past, patience, users)
        assert isinstance(begun, Try)
        assert 1 <= begun.company <= users
        alone = begun.company == 1
        ended = after(failure, past, patience, NOON)
        if isinstance(ended, Dead):
            break
        errors, crashes = past.errors + (failure is Failure.ERROR), past.crashes + (failure is Failure.CRASH)
        past = tries(errors, crashes, run)
    assert isinstance(ended, Dead)
    assert alone


@given(PATIENCES, st.integers(0, 8), st.integers(1, 10**6))
def test_pauses_double_up_to_a_bound_and_spread_by_run(patience, errors, run):
    decision = after(Failure.ERROR, tries(errors, run=run), patience, NOON)
    if isinstance(decision, Retry):
        doubled = min(patience.longest_pause_s, patience.first_pause_s * 2**errors)
        assert doubled <= pause_s(decision) + 1e-6
        assert pause_s(decision) <= doubled * 1.5 + 1e-6
        assert decision == after(Failure.ERROR, tries(errors, run=run), patience, NOON)


def test_runs_that_failed_together_come_back_at_different_times():
    pauses = {pause_s(after(Failure.ERROR, tries(run=run), PATIENCE, NOON)) for run in range(200)}
    assert len(pauses) > 100
    assert min(pauses) >= 10
    assert max(pauses) <= 15


def test_an_absent_trainer_is_asked_again_soon_and_ever_more_seldom():
    pauses = [pause_s(after(Failure.ABSENCE, Tries(1, claims, 0, 0), PATIENCE, NOON)) for claims in (1, 2, 30)]
    assert 1 <= pauses[0] <= 1.5
    assert 2 <= pauses[1] <= 3
    assert 30 <= pauses[2] <= 45


def test_a_run_whose_trainer_was_lost_is_tried_again_at_once():
    pauses = [pause_s(after(Failure.CRASH, tries(errors=3, crashes=past), PATIENCE, NOON)) for past in (0, 1)]
    assert 1 <= pauses[0] <= 1.5
    assert 2 <= pauses[1] <= 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_errors": 1},
        {"max_crashes": 1},
        {"first_pause_s": -1.0},
        {"first_pause_s": 700.0},
        {"longest_pause_s": float("inf")},
        {"crash_pause_s": 601.0},
        {"absent_pause_s": 31.0},
    ],
)
def test_patience_that_nobody_can_have_is_refused(wrong):
    with pytest.raises(InvalidFact):
        Patience(**wrong)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(InvalidFact):
        after(Failure.ERROR, tries(), PATIENCE, NOON.replace(tzinfo=None))
    assert timedelta(0) < after(Failure.ERROR, tries(), PATIENCE, NOON).at - NOON
