from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.trigger import Activity, Limits, Train, Wait, when

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = Limits(min_fresh=8, cooldown_s=60, max_runs_per_day=5, max_wait_s=600, min_total=10)
DUE = Activity(
    consented=True,
    fresh=8,
    total=8,
    has_open_run=False,
    last_run_at=None,
    last_event_at=NOON,
    runs_today=0,
    basis_ready=True,
    forgotten=False,
)


def ago(**parts: float) -> datetime:
    return NOON - timedelta(**parts)


QUIET = replace(DUE, fresh=1, total=10, oldest_fresh_at=ago(minutes=11), last_event_at=ago(minutes=1))


@pytest.mark.parametrize(
    ("activity", "decision", "code", "until"),
    [
        (DUE, Train, "enough_fresh", None),
        (replace(DUE, forgotten=True), Wait, "forgotten", None),
        (replace(DUE, consented=False), Wait, "not_consented", None),
        (replace(DUE, has_open_run=True), Wait, "open_run", None),
        (replace(DUE, basis_ready=False), Wait, "no_basis", None),
        (replace(DUE, fresh=7), Wait, "too_few_fresh", None),
        (replace(DUE, dead=True), Wait, "dead_letter", None),
        (replace(DUE, dead=True, fresh=31, total=31), Wait, "dead_letter", None),
        (replace(DUE, dead=True, fresh=32, total=32), Train, "enough_fresh", None),
        (replace(QUIET, dead=True), Wait, "dead_letter", None),
        (replace(DUE, fresh=0, total=0, last_event_at=None), Wait, "too_few_fresh", None),
        (replace(DUE, last_run_at=ago(seconds=59)), Wait, "cooling_down", NOON + timedelta(seconds=1)),
        (replace(DUE, last_run_at=ago(seconds=60)), Train, "enough_fresh", None),
        (replace(DUE, runs_today=4), Train, "enough_fresh", None),
        (replace(DUE, runs_today=5), Wait, "quota_spent", datetime(2026, 3, 2, tzinfo=UTC)),
        (QUIET, Train, "waited_long", None),
        (replace(QUIET, oldest_fresh_at=ago(minutes=10)), Train, "waited_long", None),
        (replace(QUIET, total=9), Wait, "too_few_fresh", None),
        (replace(QUIET, fresh=0), Wait, "too_few_fresh", None),
        (replace(QUIET, oldest_fresh_at=ago(minutes=9)), Wait, "too_few_fresh", NOON + timedelta(minutes=1)),
        (replace(QUIET, oldest_fresh_at=None), Wait, "too_few_fresh", NOON + timedelta(minutes=9)),
        (replace(QUIET, last_run_at=ago(seconds=1)), Wait, "cooling_down", NOON + timedelta(seconds=59)),
    ],
)
def test_the_user_is_due_or_waits_for_this_reason(activity, decision, code, until):
    answer = when(activity, LIMITS, NOON)
    assert isinstance(answer, decision)
    assert answer.code == code
    assert getattr(answer, "until", None) == until


def test_the_reason_counts_what_is_there_and_what_is_needed():
    assert when(replace(DUE, fresh=7), LIMITS, NOON).reason == "7 of 8 fresh events"


def test_without_a_longest_wait_a_few_events_wait_for_ever():
    limits = replace(LIMITS, max_wait_s=None)
    assert when(replace(QUIET, oldest_fresh_at=ago(days=300)), limits, NOON) == Wait(
        "1 of 8 fresh events", "too_few_fresh"
    )


def test_the_day_of_the_quota_is_the_utc_day():
    in_tokyo = datetime(2026, 3, 2, 8, 30, tzinfo=timezone(timedelta(hours=9)))  # 23:30 UTC on the day before
    assert when(replace(DUE, runs_today=5), LIMITS, in_tokyo).until == datetime(2026, 3, 2, tzinfo=UTC)


TIMES = st.floats(-1e7, 1e7).map(lambda seconds: NOON + timedelta(seconds=seconds))
COUNTS = st.integers(0, 40)


@st.composite
def activities(draw: st.DrawFn) -> Activity:
    total = draw(COUNTS)
    return Activity(
        consented=draw(st.booleans()),
        fresh=draw(st.integers(0, total)),
        total=total,
        has_open_run=draw(st.booleans()),
        last_run_at=draw(st.none() | TIMES),
        last_event_at=draw(st.none() | TIMES),
        runs_today=draw(st.integers(0, 6)),
        basis_ready=draw(st.booleans()),
        forgotten=draw(st.booleans()),
        oldest_fresh_at=draw(st.none() | TIMES),
    )


def limits() -> st.SearchStrategy[Limits]:
    seconds = st.floats(0, 1e7)
    return st.builds(
        Limits,
        st.integers(1, 40),
        seconds,
        st.integers(1, 6),
        max_wait_s=st.none() | seconds,
        min_total=st.integers(1, 40),
    )


def able(activity: Activity) -> Activity:
    return replace(activity, consented=True, forgotten=False, has_open_run=False, basis_ready=True)


@given(activities(), limits(), TIMES)
def test_who_is_trained_has_consented_and_has_something_fresh(activity, limits, now):
    if isinstance(when(activity, limits, now), Train):
        assert activity.consented
        assert not activity.forgotten
        assert not activity.has_open_run
        assert activity.basis_ready
        assert activity.fresh >= 1
        assert activity.runs_today < limits.max_runs_per_day
        assert activity.last_run_at is None or now >= activity.last_run_at + timedelta(seconds=limits.cooldown_s)


@given(activities(), limits(), TIMES)
def test_an_able_user_with_enough_fresh_events_is_trained_at_last(activity, limits, now):
    activity = replace(able(activity), fresh=limits.min_fresh, total=limits.min_fresh + activity.total, runs_today=0)
    answer = when(activity, limits, now)
    if isinstance(answer, Wait):
        assert answer.until is not None
        assert isinstance(when(activity, limits, answer.until), Train)


@given(activities(), limits(), TIMES)
def test_until_lies_ahead_and_by_then_the_reason_is_gone(activity, limits, now):
    answer = when(able(activity), limits, now)
    if isinstance(answer, Wait) and answer.until is not None:
        assert answer.until > now
        fresh_day = replace(able(activity), runs_today=0) if answer.code == "quota_spent" else able(activity)
        assert when(fresh_day, limits, answer.until).code != answer.code


@given(activities(), limits(), TIMES, st.floats(0, 1))
def test_before_until_the_answer_stays(activity, limits, now, part):
    answer = when(able(activity), limits, now)
    if isinstance(answer, Wait) and answer.until is not None:
        between = now + (answer.until - now) * part
        if between < answer.until:
            assert when(able(activity), limits, between) == answer


@given(activities(), limits(), TIMES)
def test_more_fresh_events_never_make_a_user_wait(activity, limits, now):
    if isinstance(when(activity, limits, now), Train):
        more = replace(activity, fresh=activity.fresh + 1, total=activity.total + 1)
        assert isinstance(when(more, limits, now), Train)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: replace(DUE, fresh=-1), "Activity.fresh is -1, but must be a whole number of at least 0"),
        (lambda: replace(DUE, fresh=9), "Activity.fresh is 9, but must be at most Activity.total, 8"),
        (
            lambda: replace(DUE, last_run_at=datetime(2026, 3, 1)),  # noqa: DTZ001 - naive on purpose
            "Activity.last_run_at is 2026-03-01T00:00:00, but must be a time with a zone, such as UTC",
        ),
        (lambda: Limits(min_fresh=0), "Limits.min_fresh is 0, but must be a whole number of at least 1"),
        (
            lambda: Limits(cooldown_s=float("nan")),
            "Limits.cooldown_s is nan, but must be a finite number of at least 0 and at most 31622400",
        ),
        (
            lambda: when(DUE, LIMITS, datetime(2026, 3, 1)),  # noqa: DTZ001 - naive on purpose
            "now is 2026-03-01T00:00:00, but must be a time with a zone, such as UTC",
        ),
    ],
)
def test_a_fact_that_cannot_be_is_refused(wrong, sentence):
    with pytest.raises(InvalidFact) as refusal:
        wrong()
    assert str(refusal.value) == sentence
