from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import InvalidFact
from policies.cohort import Load, pack


def loads(*tokens: int) -> list[Load]:
    return [Load(run, size) for run, size in enumerate(tokens, start=1)]


@pytest.mark.parametrize(
    ("tokens", "cohorts"),
    [
        ((), ()),
        ((100,), ((1,),)),
        ((40, 40, 20), ((1, 2, 3),)),
        ((60, 60, 40), ((1, 3), (2,))),
        ((10, 500, 10), ((1, 3), (2,))),
        ((500, 500), ((1,), (2,))),
        ((1, 1, 1, 1), ((1, 2, 3), (4,))),
    ],
)
def test_a_hundred_tokens_and_three_users_a_cohort(tokens, cohorts):
    assert pack(loads(*tokens), 100, 3) == cohorts


LOADS = st.lists(st.integers(1, 300), max_size=40).map(lambda sizes: loads(*sizes))
BUDGETS, USERS = st.integers(1, 200), st.integers(1, 8)


@given(LOADS, BUDGETS, USERS)
def test_every_run_is_in_exactly_one_cohort(loads, budget, users):
    assert sorted(chain(*pack(loads, budget, users))) == [load.run for load in loads]


@given(LOADS, BUDGETS, USERS)
def test_no_cohort_exceeds_its_limits_except_a_single_large_run(loads, budget, users):
    tokens = {load.run: load.tokens for load in loads}
    for cohort in pack(loads, budget, users):
        assert 1 <= len(cohort) <= users
        assert sum(tokens[run] for run in cohort) <= budget or len(cohort) == 1


@given(LOADS, BUDGETS, USERS)
def test_the_given_order_is_kept(loads, budget, users):
    cohorts = pack(loads, budget, users)
    assert all(list(cohort) == sorted(cohort) for cohort in cohorts)
    assert [cohort[0] for cohort in cohorts] == sorted(cohort[0] for cohort in cohorts)


@given(LOADS, BUDGETS, USERS)
def test_a_run_that_opened_a_cohort_fitted_into_none_before(loads, budget, users):
    tokens = {load.run: load.tokens for load in loads}
    cohorts = pack(loads, budget, users)
    for i, cohort in enumerate(cohorts):
        for earlier in cohorts[:i]:
            there = [run for run in earlier if run < cohort[0]]
            assert len(there) == users or sum(tokens[run] for run in (*there, cohort[0])) > budget


@given(LOADS, st.integers(1, 300), BUDGETS, USERS)
def test_a_run_that_comes_last_moves_nobody(loads, tokens, budget, users):
    before = pack(loads, budget, users)
    after = pack([*loads, Load(1000, tokens)], budget, users)
    without = tuple(tuple(run for run in cohort if run != 1000) for cohort in after)
    assert tuple(cohort for cohort in without if cohort) == before


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Load(1, 0),
        lambda: Load(-1, 1),
        lambda: pack([], 0, 1),
        lambda: pack([], 1, 0),
        lambda: pack([Load(1, 1), Load(1, 2)], 10, 10),
    ],
)
def test_a_fact_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidFact):
        wrong()
