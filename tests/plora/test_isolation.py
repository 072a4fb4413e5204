"""Members of a cohort never influence each other: alone, in company, in any order, beside a poisoned neighbour."""

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import plora
from plora import (
    BaseModel,
    Basis,
    Example,
    FitFailed,
    FitFailure,
    FitSettings,
    Fitted,
    Moved,
    Population,
    Privacy,
    Refit,
    Statistics,
)
from plora.examples import encode_all
from plora.passes import passes
from tests.faults.figures import record
from tests.plora import toys
from tests.plora.conftest import Toy

SHORT = FitSettings(steps=3)
LONG_TEXT = "the soup was very good and the room was very bad and the view"


def members(count: int) -> list[list[Example]]:
    """Users with one to four examples of two lengths."""
    found = []
    for user in range(count):
        examples = toys.reviews(1 + user % 4, 100 + user, toys.TRIBES[user % 4])
        if user % 3 == 0:
            examples.append(Example(LONG_TEXT, toys.LABELS[user % 2]))
        found.append(examples)
    return found


def fitted(base: BaseModel, basis: Basis, cohort: list[list[Example]]) -> list[Tensor]:
    outcomes = plora.fit(base, basis, cohort, SHORT)
    assert all(isinstance(outcome, Fitted) for outcome in outcomes)
    return [outcome.adapter.vector for outcome in outcomes if isinstance(outcome, Fitted)]


@pytest.fixture(scope="module")
def alone(bert: Toy) -> list[Tensor]:
    """The vectors of six users, each fitted alone."""
    return [fitted(bert.base, bert.basis, [user])[0] for user in members(6)]


def test_a_user_alone_with_one_and_with_63_others_gets_the_same_vector(any_toy: Toy) -> None:
    crowd = members(64)
    (by_itself,) = fitted(any_toy.base, any_toy.basis, crowd[:1])
    with_one = fitted(any_toy.base, any_toy.basis, crowd[:2])
    with_all = fitted(any_toy.base, any_toy.basis, crowd)
    assert by_itself.any()
    assert torch.equal(with_one[0], by_itself)
    assert torch.equal(with_all[0], by_itself)
    assert torch.equal(with_all[1], with_one[1])


@pytest.mark.parametrize(
    "chosen",
    [
        FitSettings(),
        FitSettings(steps=2, prior=0.01, tolerance=0),
        FitSettings(optimizer=plora.Optimizer.ADAM, steps=3),
    ],
    ids=["one step", "two steps, some damped", "adam"],
)
@pytest.mark.parametrize("precision", list(plora.Precision))
def test_every_way_to_fit_gives_a_user_the_same_bits_alone_and_in_a_crowd(
    bert: Toy, chosen: FitSettings, precision: plora.Precision
) -> None:
    engine = plora.Engine(bert.base, bert.basis, precision)
    crowd = members(64)
    together = plora.fit(bert.base, bert.basis, crowd, chosen, engine=engine)
    for user in (0, 31, 63):
        (alone,) = plora.fit(bert.base, bert.basis, [crowd[user]], chosen, engine=engine)
        one = together[user]
        assert isinstance(alone, Fitted)
        assert isinstance(one, Fitted)
        assert plora.dumps(alone.adapter) == plora.dumps(one.adapter)
        assert alone.left_out == one.left_out
        if alone.statistics is not None:
            assert one.statistics is not None
            assert plora.dumps(alone.statistics) == plora.dumps(one.statistics)


def test_windows_bound_what_is_fitted_at_a_time_and_change_nobody(bert: Toy) -> None:
    crowd = members(30)
    whole = fitted(bert.base, bert.basis, crowd)
    sizes: list[int] = []

    for limit in (40, 200):
        windows = list(plora.fitting.windows(bert.base, bert.basis, crowd, limit))
        sizes.append(len(windows))
        assert sum(len(window.users) for window in windows) == 30
        assert all(
            len(window.fitted) == 1 or sum(len(row.ids) for rows in window.fitted for row in rows) <= limit
            for window in windows
        )
        left = list(crowd)
        apart = []
        for window in windows:  # each fitted by itself, as `fit` does
            part, left = left[: len(window.users)], left[len(window.users) :]
            apart += fitted(bert.base, bert.basis, part)
        assert all(torch.equal(one, other) for one, other in zip(whole, apart, strict=True))
    assert sizes[0] > sizes[1] > 1


def test_the_order_of_the_cohort_is_irrelevant(any_toy: Toy) -> None:
    crowd = members(40)
    order = list(range(40))
    random.Random(0).shuffle(order)
    straight = fitted(any_toy.base, any_toy.basis, crowd)
    shuffled = fitted(any_toy.base, any_toy.basis, [crowd[i] for i in order])
    for at, user in enumerate(order):
        assert torch.equal(shuffled[at], straight[user])


@given(chosen=st.lists(st.integers(0, 5), min_size=1, max_size=8))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_choice_or_order_of_members_touches_anyone(bert: Toy, alone: list[Tensor], chosen: list[int]) -> None:
    together = fitted(bert.base, bert.basis, [members(6)[user] for user in chosen])
    for user, vector in zip(chosen, together, strict=True):
        assert torch.equal(vector, alone[user])


@pytest.mark.parametrize("victims", [[0], [2], [1, 4], [0, 5]])
def test_data_that_give_nan_fail_their_own_user_only(poisoned: tuple[BaseModel, Basis], victims: list[int]) -> None:
    base, basis = poisoned
    healthy = members(6)
    cohort = [list(examples) for examples in healthy]
    for user in victims:
        cohort[user].insert(len(cohort[user]) // 2, Example("the soup was poison", "like"))
    outcomes = plora.fit(base, basis, cohort, SHORT)
    for user, outcome in enumerate(outcomes):
        if user in victims:
            assert outcome == FitFailed(FitFailure.NOT_FINITE)
        else:
            assert isinstance(outcome, Fitted)
            assert torch.equal(outcome.adapter.vector, fitted(base, basis, [healthy[user]])[0])


def test_a_cohort_of_poison_only_fails_whole(poisoned: tuple[BaseModel, Basis]) -> None:
    base, basis = poisoned
    bad = [Example("poison", "like")]
    assert plora.fit(base, basis, [bad, bad]) == [FitFailed(FitFailure.NOT_FINITE)] * 2


def test_a_users_scores_do_not_depend_on_the_rest_of_the_cohort(any_toy: Toy) -> None:
    crowd = members(12)
    judged = [
        plora.Judged(plora.Adapter.of(any_toy.basis, vector), examples[:1], examples)
        for vector, examples in zip(toys.vectors(12), crowd, strict=True)
    ]
    together = plora.score(any_toy.base, any_toy.basis, judged)
    for user in (0, 3, 7):
        (by_itself,) = plora.score(any_toy.base, any_toy.basis, [judged[user]])
        assert by_itself.to_json() == together[user].to_json()


def test_poison_in_one_users_held_out_examples_spoils_their_scores_only(poisoned: tuple[BaseModel, Basis]) -> None:
    base, basis = poisoned
    adapter = plora.Adapter.of(basis, torch.ones(8))
    good = plora.Judged(adapter, members(1)[0], members(1)[0])
    bad = plora.Judged(adapter, [], [Example("the soup was poison", "like")])
    spoiled, healthy = plora.score(base, basis, [bad, good])
    assert spoiled.personal.nll != spoiled.personal.nll
    assert healthy == plora.score(base, basis, [good])[0]


@pytest.fixture(params=["head", "targets"])
def reached(request: pytest.FixtureRequest, bert: Toy, trained: Population) -> Basis:
    """A Basis whose users enter at the task head alone, and one whose users enter at the blocks."""
    basis = trained.basis if request.param == "head" else bert.basis
    assert plora.Engine(bert.base, basis).reaches_blocks == (request.param == "targets")
    return basis


def told(outcomes: list[Fitted | FitFailed] | list[Fitted | Moved | FitFailed]) -> list[bytes]:
    """All that is kept of each user: adapter, the one of its label bias, statistics and losses, to the bit."""
    found = []
    for outcome in outcomes:
        if not isinstance(outcome, Fitted):
            found.append(repr(outcome).encode())
            continue
        parts = [plora.dumps(outcome.adapter), repr((outcome.left_out, outcome.left_out_losses)).encode()]
        if outcome.bias is not None:
            parts += [plora.dumps(outcome.bias.adapter), repr(outcome.bias.left_out).encode()]
        if outcome.statistics is not None:
            parts.append(plora.dumps(outcome.statistics))
        found.append(b"".join(parts))
    return found


def grown(base: BaseModel, basis: Basis, crowd: list[list[Example]]) -> list[Refit]:
    """The crowd with statistics of what came before and two new examples each."""
    before = plora.fit(base, basis, crowd, FitSettings(tolerance=100))
    found = []
    for user, outcome in enumerate(before):
        assert isinstance(outcome, Fitted)
        assert isinstance(outcome.statistics, Statistics)
        found.append(Refit(outcome.statistics, toys.reviews(2, 900 + user, toys.TRIBES[user % 4])))
    return found


def test_of_64_users_the_absent_ones_share_in_a_step_is_nothing(bert: Toy, reached: Basis) -> None:
    crowd = members(64)
    owner = torch.tensor([user for user, examples in enumerate(crowd) for _ in examples])
    present = torch.tensor([user % 5 == 0 for user in range(64)])
    vectors = toys.vectors(64, reached.spec.dimensions)
    rows = encode_all(bert.base, reached, [example for examples in crowd for example in examples])
    with passes(plora.Engine(bert.base, reached), rows) as run:
        _, gradients = run.gradients(vectors[owner], present[owner])
        everyone = vectors.clone().requires_grad_()
        total = torch.zeros(())
        for batch in run.batches():  # absent users sit in the same micro-batches, their losses are not asked for
            mine = torch.zeros(batch.ids.shape[0], reached.spec.dimensions)
            mine[: len(batch.index)] = everyone[owner[batch.index]]
            losses = torch.nn.functional.cross_entropy(run.logits(batch, mine), batch.targets, reduction="none")
            total = total + losses[: len(batch.index)][present[owner[batch.index]]].sum()
        torch.autograd.backward(total)
    assert everyone.grad is not None
    assert bool((everyone.grad[~present] == 0).all())
    assert bool((everyone.grad[present] != 0).any(1).all())
    assert bool((gradients[~present[owner]] == 0).all())
    assert bool((gradients[present[owner]] != 0).any())
    largest = float(everyone.grad[~present].abs().max())
    record("C4", 2, users=64, absent=int((~present).sum()), largest_absent_gradient=largest)


def test_one_users_data_change_no_byte_of_the_63_others(bert: Toy, reached: Basis) -> None:
    crowd = members(64)
    changed = [list(examples) for examples in crowd]
    changed[20] = [Example(example.text, toys.LABELS[0]) for example in toys.reviews(9, 7)]
    before, after = (told(plora.fit(bert.base, reached, each)) for each in (crowd, changed))
    assert [user for user in range(64) if before[user] != after[user]] == [20]
    (alone,) = told(plora.fit(bert.base, reached, changed[20:21]))
    assert alone == after[20]


def test_one_users_new_data_change_no_byte_of_the_63_others_refits(bert: Toy, reached: Basis) -> None:
    cohort = grown(bert.base, reached, members(64))
    changed = list(cohort)
    changed[20] = Refit(cohort[20].statistics, [Example(each.text, toys.LABELS[1]) for each in toys.reviews(3, 7)])
    before, after = (told(plora.refit(bert.base, reached, each)) for each in (cohort, changed))
    assert [user for user in range(64) if before[user] != after[user]] == [20]
    for user in (0, 20, 63):
        assert told(plora.refit(bert.base, reached, changed[user : user + 1])) == [after[user]]


def test_new_data_that_give_nan_fail_their_own_users_refit_only(poisoned: tuple[BaseModel, Basis]) -> None:
    base, basis = poisoned
    cohort = grown(base, basis, members(64))
    bad = [*cohort[:30], Refit(cohort[30].statistics, [Example("the soup was poison", "like")]), *cohort[31:]]
    healthy, spoiled = (told(plora.refit(base, basis, each)) for each in (cohort, bad))
    assert [user for user in range(64) if healthy[user] != spoiled[user]] == [30]
    assert spoiled[30] == repr(FitFailed(FitFailure.NOT_FINITE)).encode()


def test_with_privacy_data_that_give_nan_count_as_a_blank(poisoned: tuple[BaseModel, Basis]) -> None:
    base, basis = poisoned
    settings = FitSettings(privacy=Privacy(float("inf"), clip=0.5))
    crowd = members(64)
    with_poison = [
        [*examples, *([Example("the soup was poison", "like")] * (user == 30))] for user, examples in enumerate(crowd)
    ]
    healthy, spoiled = (told(plora.fit(base, basis, each, settings)) for each in (crowd, with_poison))
    assert [user for user in range(64) if healthy[user] != spoiled[user]] == [30]
    assert all(isinstance(outcome, Fitted) for outcome in plora.fit(base, basis, with_poison, settings))


def test_a_fit_and_a_refit_draw_nothing_at_random(bert: Toy, reached: Basis) -> None:
    """There is no seed to derive: whatever state the process's generators are in, and it is left as it was."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        states = torch.get_rng_state(), random.getstate()
        cohort = grown(bert.base, reached, members(8))
        found.append((told(plora.fit(bert.base, reached, members(8))), told(plora.refit(bert.base, reached, cohort))))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
    assert found[0] == found[1]
