"""One more example: the same vector as a fit of all, for a pass over the new one; and a refusal where that fails."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plora
from plora import (
    Basis,
    Example,
    FitFailed,
    FitFailure,
    FitSettings,
    Fitted,
    MalformedStatistics,
    Moved,
    Refit,
    Statistics,
)
from tests.plora import toys
from tests.plora.conftest import Toy


def calm(toy: Toy) -> Toy:
    """With a weaker user part, whose parabolas hold."""
    basis = toy.basis
    return Toy(
        toy.base, toy.fresh, Basis(basis.spec, {n: v * (0.3 if n[0] == "P" else 1) for n, v in basis.tensors.items()})
    )


def fitted(toy: Toy, basis: Basis, examples: list[Example], chosen: FitSettings | None = None) -> Fitted:
    (outcome,) = plora.fit(toy.base, basis, [examples], chosen)
    assert isinstance(outcome, Fitted)
    return outcome


def statistics_of(toy: Toy, examples: list[Example]) -> Statistics:
    found = fitted(toy, toy.basis, examples, FitSettings(prior=4.0)).statistics
    assert found is not None
    return found


HISTORY = toys.reviews(16, 9, ("good",))


@pytest.mark.parametrize("new", [1, 3])
def test_a_refit_is_the_fit_of_all_examples(any_toy: Toy, new: int) -> None:
    chosen, any_toy = FitSettings(prior=4.0), calm(any_toy)
    before = statistics_of(any_toy, HISTORY[:-new])
    (after,) = plora.refit(any_toy.base, any_toy.basis, [Refit(before, HISTORY[-new:])], chosen)
    whole = fitted(any_toy, any_toy.basis, HISTORY, chosen)
    assert isinstance(after, Fitted)
    torch.testing.assert_close(after.adapter.vector, whole.adapter.vector, atol=1e-3, rtol=1e-2)  # a parabola's error
    assert after.statistics is not None
    assert whole.statistics is not None
    assert after.statistics.examples == whole.statistics.examples == 16
    torch.testing.assert_close(after.statistics.information, whole.statistics.information, atol=3e-2, rtol=0.2)


def test_examples_may_come_one_by_one_through_files(bert: Toy) -> None:
    chosen = FitSettings(prior=4.0)
    statistics = statistics_of(bert, HISTORY[:8])
    for example in HISTORY[8:]:
        kept = plora.loads_statistics(plora.dumps(statistics))
        (outcome,) = plora.refit(bert.base, bert.basis, [Refit(kept, [example])], chosen)
        assert isinstance(outcome, Fitted)
        assert outcome.statistics is not None
        statistics = outcome.statistics
    whole = fitted(bert, bert.basis, HISTORY, chosen)
    torch.testing.assert_close(outcome.adapter.vector, whole.adapter.vector, atol=1e-2, rtol=1e-2)


def test_only_the_new_examples_are_run(bert: Toy) -> None:
    engine = plora.Engine(bert.base, bert.basis)
    seen: list[int] = []
    names = dict(engine.module.named_modules())
    names["bert.embeddings"].register_forward_hook(lambda _, __, out: seen.append(len(out)))
    long = statistics_of(bert, HISTORY)
    (outcome,) = plora.refit(bert.base, bert.basis, [Refit(long, HISTORY[:1])], FitSettings(prior=4.0), engine=engine)
    assert isinstance(outcome, Fitted)
    assert outcome.passes == 1.5
    assert len(seen) == 1


def test_members_of_a_refit_do_not_touch_each_other(any_toy: Toy) -> None:
    chosen, any_toy = FitSettings(prior=4.0), calm(any_toy)
    cohort = [Refit(statistics_of(any_toy, toys.reviews(6, s)), toys.reviews(1 + s % 3, 50 + s)) for s in range(12)]
    together = plora.refit(any_toy.base, any_toy.basis, cohort, chosen)
    for user in (0, 5, 11):
        (alone,) = plora.refit(any_toy.base, any_toy.basis, [cohort[user]], chosen)
        assert isinstance(alone, Fitted)
        one = together[user]
        assert isinstance(one, Fitted)
        assert torch.equal(alone.adapter.vector, one.adapter.vector)


def test_a_linearisation_that_no_longer_holds_is_given_up(bert: Toy) -> None:
    wild = Basis(bert.basis.spec, {n: v * (40 if n.startswith("P.") else 1) for n, v in bert.basis.tensors.items()})
    d = len(wild.prior_mean)
    start = Statistics(
        base=wild.base,
        basis=wild.fingerprint,
        prior=0.01,
        examples=2,
        loss=1.0,
        point=torch.zeros(d).double(),
        gradient=torch.zeros(d).double(),
        information=torch.eye(d).double() * 1e-3,
    )
    cohort = [Refit(start, toys.reviews(3, seed)) for seed in range(8)]
    outcomes = plora.refit(bert.base, wild, cohort, FitSettings(prior=0.01))
    assert any(isinstance(outcome, Moved) for outcome in outcomes)


def test_bad_members_fail_alone(bert: Toy) -> None:
    chosen = FitSettings(prior=4.0)
    good = statistics_of(bert, HISTORY)
    other = Statistics(
        base=good.base,
        basis="ab" * 32,
        prior=4.0,
        examples=1,
        loss=0.0,
        point=good.point,
        gradient=good.gradient,
        information=good.information,
    )
    cohort = [
        Refit(good, HISTORY[:1]),
        Refit(other, HISTORY[:1]),
        Refit(good, []),
        Refit(good, [Example("the soup", "never heard of")]),
    ]
    first, *rest = plora.refit(bert.base, bert.basis, cohort, chosen)
    assert isinstance(first, Fitted)
    assert rest == [
        FitFailed(FitFailure.WRONG_BASIS),
        FitFailed(FitFailure.NO_EXAMPLES),
        FitFailed(FitFailure.UNKNOWN_LABEL),
    ]
    (again,) = plora.refit(bert.base, bert.basis, [Refit(good, HISTORY[:1])], FitSettings(prior=1.0))
    assert again == FitFailed(FitFailure.WRONG_BASIS)  # another prior weight


def test_statistics_files_are_exact_to_float32_and_under_a_kilobyte(bert: Toy) -> None:
    before = statistics_of(bert, HISTORY)
    data = plora.dumps(before)
    after = plora.loads_statistics(data)
    assert plora.dumps(after) == data
    assert len(data) < 1024
    assert (after.base, after.basis, after.examples, after.prior) == (before.base, before.basis, 16, 4.0)
    assert torch.equal(after.information, before.information.float().double())
    assert torch.equal(after.information, after.information.T)
    assert "point" not in repr(after)
    assert "gradient" not in repr(after)


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_any_changed_byte_of_a_statistics_file_is_refused(at: int, flip: int) -> None:
    d = 4
    made = Statistics("ab" * 32, "cd" * 32, 2.0, 3, 1.5, torch.ones(d).double(), torch.ones(d).double(),
                      torch.eye(d).double())  # fmt: skip
    data = bytearray(plora.dumps(made))
    data[at % len(data)] ^= flip
    with pytest.raises(MalformedStatistics):
        plora.loads_statistics(bytes(data))


@pytest.mark.parametrize("data", [b"", b"PLS1", b"PLA1" + bytes(400), b"PLS1" + bytes(400)])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedStatistics):
        plora.loads_statistics(data)


def test_statistics_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MalformedStatistics):
        Statistics("ab" * 32, "cd" * 32, 2.0, 3, float("nan"), torch.ones(2), torch.ones(2), torch.eye(2))
