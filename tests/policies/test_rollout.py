"""A rollout is decided for the arm that is surely better, however often somebody looks."""

import math
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.rollout import Continue, Promote, RollBack, Rules, Seen, Trial, decide, effect, treats

START = datetime(2030, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=1)


def drawn(users: int, gain: float, seed: int, share: float = 0.5, level: float = 0.4) -> list[Seen]:
    """Users with levels of their own, drawn into arms; the treatment lifts each of them by `gain`."""
    draw, seen = random.Random(seed), []
    for _ in range(users):
        treated = draw.random() < share
        chance = min(1.0, max(0.0, level + draw.uniform(-0.3, 0.3) + gain * treated))
        seen.append(Seen(treated, sum(draw.random() < chance for _ in range(3)) / 3))
    return seen


def decided(seen: list[Seen], now: datetime = LATER, share: float = 0.5, **rules):
    return decide(Trial(share, START, seen), Rules(**rules), now)


@pytest.mark.parametrize(
    ("gain", "kind", "code"), [(0.25, Promote, "surely_better"), (-0.25, RollBack, "surely_not_better")]
)
def test_what_is_surely_better_wins(gain, kind, code):
    answer = decided(drawn(400, gain, seed=1))
    assert (type(answer), answer.code) == (kind, code)
    assert "on 400 users" in answer.reason


def test_nothing_is_decided_on_few_users_of_one_arm():
    seen = [each for each in drawn(2_000, 0.3, seed=1) if each.treated] + [Seen(False, 0.0)] * 29
    assert decided(seen).code == "too_few_users"
    assert decided([]).code == "too_few_users"
    assert decided(drawn(100, 0.0, seed=2)).code == "undecided"


def test_when_the_time_is_over_the_rule_for_the_undecided_holds():
    seen, over = drawn(100, 0.0, seed=2), START + timedelta(days=14)
    assert isinstance(decided(seen, over - timedelta(seconds=1)), Continue)
    assert (type(decided(seen, over)), decided(seen, over).code) == (Promote, "time_over")
    assert isinstance(decided(seen, over, undecided="roll_back"), RollBack)
    assert isinstance(decided(drawn(400, -0.25, seed=1), over), RollBack)  # what is known goes before


def test_a_loss_that_is_put_up_with_is_no_reason_to_go_back():
    seen = drawn(4_000, -0.02, seed=3)
    assert isinstance(decided(seen, least_gain=-0.1), Promote)
    assert not isinstance(decided(seen, least_gain=0.0), Promote)


def _looks(seen: list[Seen], share: float, error: float) -> bool:
    """Whether the interval ever leaves out 0. What was left out stays out: the last look tells of all of them."""
    found = effect(Trial(share, START, seen), error)
    return found.low > 0 or found.high < 0


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_looking_after_every_user_seldom_decides_where_there_is_no_difference(share):
    wrong = sum(_looks(drawn(600, 0.0, seed, share), share, 0.1) for seed in range(250))
    assert wrong / 250 <= 0.1


def test_a_test_for_one_look_would_be_wrong_if_looked_at_after_every_user():
    """So that the test above can fail: a z test at the same error decides far too often."""
    wrong = 0
    for seed in range(150):
        sums = {True: [0, 0.0, 0.0], False: [0, 0.0, 0.0]}
        for each in drawn(600, 0.0, seed):
            arm = sums[each.treated]
            arm[0], arm[1], arm[2] = arm[0] + 1, arm[1] + each.value, arm[2] + each.value**2
            if min(sums[True][0], sums[False][0]) < 30:
                continue
            means = {key: (n, total / n, squares / n - (total / n) ** 2) for key, (n, total, squares) in sums.items()}
            error = math.sqrt(sum(spread / n for n, _, spread in means.values()))
            if abs(means[True][1] - means[False][1]) > 1.645 * error:
                wrong += 1
                break
    assert wrong / 150 > 0.2


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_interval_holds_the_gain(share):
    gain = 0.15
    missed = 0
    for seed in range(100):
        found = effect(Trial(share, START, drawn(1_000, gain, seed, share)), 0.1)
        missed += not found.low <= gain <= found.high
    assert missed <= 10


def test_a_loud_start_of_one_arm_is_no_difference():
    """Users come in any order: the mean before is only a centre."""
    seen = sorted(drawn(600, 0.0, seed=5), key=lambda each: each.value)
    assert not _looks(seen, 0.5, 0.05)


def test_a_user_stays_in_an_arm_and_another_salt_draws_anew():
    users = [f"{number:032x}" for number in range(4_000)]
    first = [treats(user, "a", 0.1) for user in users]
    assert first == [treats(user, "a", 0.1) for user in users]
    assert abs(sum(first) / 4_000 - 0.1) < 0.02
    second = [treats(user, "b", 0.1) for user in users]
    assert abs(sum(a and b for a, b in zip(first, second, strict=True)) / 4_000 - 0.01) < 0.006
    wider = [treats(user, "a", 0.3) for user in users]
    assert all(wide for wide, narrow in zip(wider, first, strict=True) if narrow)  # a larger share only adds


SEEN = st.lists(st.builds(Seen, st.booleans(), st.floats(0, 1)), max_size=60)


@given(SEEN, st.floats(0.01, 0.99), st.floats(0.001, 0.4))
def test_whatever_was_seen_the_interval_is_one(seen, share, error):
    found = effect(Trial(share, START, seen), error)
    assert -1 <= found.low <= found.high <= 1
    assert -1 <= found.mean <= 1


@given(SEEN)
def test_more_users_never_widen_what_is_known(seen):
    before = effect(Trial(0.5, START, seen[:-1]), 0.05)
    after = effect(Trial(0.5, START, seen), 0.05)
    assert after.low >= before.low
    assert after.high <= max(before.high, after.low)


@pytest.mark.parametrize(
    "changes",
    [
        {"least_users": 0},
        {"outcomes_per_user": 0},
        {"least_gain": 2.0},
        {"error": 0.0},
        {"longest_s": math.nan},
        {"undecided": "wait"},
    ],
)
def test_rules_that_decide_nothing_are_refused(changes):
    with pytest.raises(InvalidFact):
        Rules(**changes)


def test_facts_that_cannot_be_are_refused():
    with pytest.raises(InvalidFact):
        Seen(True, 1.5)
    with pytest.raises(InvalidFact):
        Trial(1.0, START)
    with pytest.raises(InvalidFact):
        Trial(0.5, START.replace(tzinfo=None))
