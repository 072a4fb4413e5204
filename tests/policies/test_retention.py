from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.retention import Inventory, Keep, Rules, StoredEvent, StoredVersion, VersionState, keep

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RULES = Rules(keep_versions=2, rejected_days=30, event_days=365)
CANDIDATE, CURRENT, RETIRED, REJECTED = VersionState


def version(number: int, state: VersionState, *, days: float = 0) -> StoredVersion:
    return StoredVersion(number, state, NOW - timedelta(days=days))


def event(seq: int, *, days: float) -> StoredEvent:
    return StoredEvent(seq, NOW - timedelta(days=days))


def test_the_current_version_and_the_last_two_retired_are_kept():
    versions = (*(version(i, RETIRED, days=900) for i in (1, 2, 4, 5)), version(3, CURRENT, days=900))
    decision = keep(Inventory(versions), RULES, NOW)
    assert [(forget.id, forget.code, forget.reason) for forget in decision.forget_versions] == [
        (1, "superseded", "not among the last 2 retired versions"),
        (2, "superseded", "not among the last 2 retired versions"),
    ]


@pytest.mark.parametrize(("days", "forgotten"), [(0, []), (30, []), (30.01, [7]), (400, [7])])
def test_a_rejected_version_is_kept_for_thirty_days(days, forgotten):
    decision = keep(Inventory((version(7, REJECTED, days=days),)), RULES, NOW)
    assert [forget.id for forget in decision.forget_versions] == forgotten


def test_a_candidate_is_kept_however_old():
    assert keep(Inventory((version(1, CANDIDATE, days=9000),)), RULES, NOW).forget_versions == ()


@pytest.mark.parametrize(("days", "forgotten"), [(0, []), (365, []), (365.01, [7]), (9000, [7])])
def test_an_event_is_kept_for_a_year(days, forgotten):
    decision = keep(Inventory(events=(event(7, days=days),)), RULES, NOW)
    assert [forget.id for forget in decision.forget_events] == forgotten


def test_without_a_limit_events_stay_until_their_user_is_forgotten():
    assert keep(Inventory(events=(event(7, days=9000),)), Rules(event_days=None), NOW).forget_events == ()


def test_nothing_stored_is_nothing_to_forget():
    assert keep(Inventory(), RULES, NOW) == Keep("nothing has outlived its rule", "nothing_to_forget", (), ())


def test_the_decision_counts_what_is_forgotten():
    inventory = Inventory((version(1, REJECTED, days=31),), (event(1, days=366), event(2, days=367)))
    assert keep(inventory, RULES, NOW).reason == "1 versions and 2 events have outlived their rules"


DAYS = st.floats(-10, 2000)
STATES = st.lists(st.tuples(st.sampled_from([CANDIDATE, RETIRED, REJECTED]), DAYS), max_size=20)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    versions = [version(i, state, days=days) for i, (state, days) in enumerate(draw(STATES), start=1)]
    if draw(st.booleans()):
        versions.append(version(len(versions) + 1, CURRENT, days=draw(DAYS)))
    events = [event(seq, days=days) for seq, days in enumerate(draw(st.lists(DAYS, max_size=20)))]
    return Inventory(tuple(draw(st.permutations(versions))), tuple(draw(st.permutations(events))))


RULE_SETS = st.builds(Rules, st.integers(0, 6), st.integers(0, 400), st.none() | st.integers(0, 400))


def after(inventory: Inventory, decision: Keep) -> Inventory:
    versions = {forget.id for forget in decision.forget_versions}
    events = {forget.id for forget in decision.forget_events}
    return Inventory(
        tuple(v for v in inventory.versions if v.version not in versions),
        tuple(e for e in inventory.events if e.seq not in events),
    )


@given(inventories(), RULE_SETS)
def test_the_current_version_and_candidates_are_never_forgotten(inventory, rules):
    states = {v.version: v.state for v in inventory.versions}
    forgotten = {states[forget.id] for forget in keep(inventory, rules, NOW).forget_versions}
    assert forgotten <= {RETIRED, REJECTED}


@given(inventories(), RULE_SETS)
def test_the_newest_retired_versions_stay(inventory, rules):
    retired = sorted(v.version for v in inventory.versions if v.state is RETIRED)
    left = after(inventory, keep(inventory, rules, NOW))
    stay = sorted(v.version for v in left.versions if v.state is RETIRED)
    assert stay == retired[max(0, len(retired) - rules.keep_versions) :]


@given(inventories(), RULE_SETS)
def test_each_thing_is_forgotten_once_and_with_its_reason(inventory, rules):
    decision = keep(inventory, rules, NOW)
    for forgets in (decision.forget_versions, decision.forget_events):
        ids = [forget.id for forget in forgets]
        assert ids == sorted(set(ids))
        assert all(forget.reason and forget.code for forget in forgets)


@given(inventories(), RULE_SETS)
def test_what_was_kept_is_kept_when_asked_again(inventory, rules):
    left = after(inventory, keep(inventory, rules, NOW))
    assert keep(left, rules, NOW).code == "nothing_to_forget"


@given(inventories(), RULE_SETS, st.floats(0, 1000))
def test_what_is_forgotten_today_would_be_forgotten_later(inventory, rules, days):
    today, later = keep(inventory, rules, NOW), keep(inventory, rules, NOW + timedelta(days=days))
    assert set(today.forget_versions) <= set(later.forget_versions)
    assert set(today.forget_events) <= set(later.forget_events)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Rules(keep_versions=-1),
        lambda: Rules(event_days=10**9),
        lambda: Inventory((version(1, CURRENT), version(2, CURRENT))),
        lambda: Inventory((version(1, CURRENT), version(1, RETIRED))),
        lambda: StoredEvent(1, datetime(2026, 3, 1)),  # noqa: DTZ001 - naive on purpose
    ],
)
def test_a_fact_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidFact):
        wrong()
