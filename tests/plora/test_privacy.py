"""Fits with privacy: nothing changed but by clip and noise, noise as strong as promised, and nothing told beside it."""

import math
from dataclasses import replace
from random import Random

import pytest
import torch
from dp_accounting.privacy_loss_distribution import PrivacyLossDistribution
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import plora
from plora import Example, FitFailed, FitSettings, Fitted, InvalidSetting, Optimizer, Population, Privacy
from plora.accounting import delta_of, epsilon_of, mu_of
from plora.curves import Curves, curves
from plora.examples import encode_all
from plora.noised import released
from plora.passes import passes
from plora.privacy import clipped, drawn
from tests.faults.figures import record
from tests.plora import toys
from tests.plora.conftest import Toy

OFF = Privacy(math.inf, clip=math.inf, looks=400)
DELTA = 1e-5


def vectors(toy: Toy, trained: Population, cohort: list[list[Example]], privacy: Privacy | None) -> Tensor:
    settings = FitSettings(privacy=privacy)
    outcomes = plora.fit(toy.base, trained.basis, cohort, settings)
    assert not any(isinstance(outcome, FitFailed) for outcome in outcomes)
    return torch.stack([outcome.adapter.vector for outcome in outcomes if isinstance(outcome, Fitted)])


def crowd(count: int) -> list[list[Example]]:
    return [toys.reviews(3 + user, 40 + user, toys.TRIBES[user % 4]) for user in range(count)]


def test_without_clip_and_noise_it_is_the_fit_without_privacy(bert: Toy, trained: Population) -> None:
    plain = vectors(bert, trained, crowd(6), None)
    assert torch.allclose(vectors(bert, trained, crowd(6), OFF), plain, rtol=0, atol=1e-6)
    bent = vectors(bert, trained, crowd(6), replace(OFF, clip=0.1))
    assert not torch.allclose(bent, plain, rtol=0, atol=1e-3)


@pytest.mark.parametrize("toy", ["bert", "gpt2"])
def test_a_user_gets_the_same_noised_look_alone_and_in_a_crowd(toy: str, request: pytest.FixtureRequest) -> None:
    found: Toy = request.getfixturevalue(toy)
    settings = FitSettings(privacy=Privacy(math.inf, clip=0.5))
    cohort = crowd(64)
    together = plora.fit(found.base, found.basis, cohort, settings)
    for user in (0, 17, 63):
        (alone,) = plora.fit(found.base, found.basis, [cohort[user]], settings)
        assert alone.adapter.vector.any()
        assert plora.dumps(alone.adapter) == plora.dumps(together[user].adapter)


@pytest.mark.parametrize("epsilon", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("looks", [1, 4])
def test_the_accountant_agrees_with_another_one(epsilon: float, looks: int) -> None:
    privacy = Privacy(epsilon, DELTA, clip=0.7, looks=looks)
    one = PrivacyLossDistribution.from_gaussian_mechanism(
        privacy.noise, sensitivity=privacy.clip, value_discretization_interval=2e-3
    )
    told = one.self_compose(looks).get_epsilon_for_delta(DELTA) if looks > 1 else one.get_epsilon_for_delta(DELTA)
    assert told == pytest.approx(epsilon, rel=0.01)


def test_versions_add_up_as_the_other_accountant_says() -> None:
    privacy, spent = Privacy(2.0, DELTA), 0.0
    one = PrivacyLossDistribution.from_gaussian_mechanism(1 / privacy.mu, value_discretization_interval=2e-3)
    for versions in range(1, 6):
        total = privacy.after(spent)
        other = one if versions == 1 else one.self_compose(versions)
        assert total == pytest.approx(other.get_epsilon_for_delta(DELTA), rel=0.01)
        spent += privacy.mu**2


@given(st.floats(0.01, 100), st.floats(1e-12, 1e-2))
def test_accounting_turns_back_on_itself(epsilon: float, delta: float) -> None:
    mu = mu_of(epsilon, delta)
    assert delta_of(mu, epsilon) <= delta < delta_of(mu * 1.001, epsilon)
    assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-4, abs=1e-4)


def test_noise_is_as_strong_as_it_says() -> None:
    privacy = Privacy(4.0, clip=0.7)
    noise = drawn(10_000, 4, privacy.noise, None)
    assert float(noise.std()) == pytest.approx(privacy.noise, rel=0.02)
    assert abs(float(noise.mean())) < 0.03 * privacy.noise
    record("C6", 0, draws=10_000, noise_over_promised=round(float(noise.std()) / privacy.noise, 4))
    assert float(noise.abs().max()) < 7 * privacy.noise
    correlated = torch.corrcoef(noise.T) - torch.eye(4, dtype=noise.dtype)
    assert float(correlated.abs().max()) < 0.06


def test_noise_is_never_the_same_twice_but_from_a_given_source(bert: Toy, trained: Population) -> None:
    asked = Privacy(4.0)
    one, two = (vectors(bert, trained, crowd(2), asked) for _ in range(2))
    assert not (one == two).all(1).any()
    torch.manual_seed(0)
    again = vectors(bert, trained, crowd(2), asked)
    torch.manual_seed(0)
    assert not (vectors(bert, trained, crowd(2), asked) == again).all(1).any()
    given_one, given_two = (vectors(bert, trained, crowd(2), replace(asked, source=Random(7))) for _ in range(2))
    assert torch.equal(given_one, given_two)


@given(
    rows=st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=6),
    clip=st.floats(0.01, 10),
)
def test_no_row_reaches_further_than_clip(rows: list[list[float]], clip: float) -> None:
    found = clipped(torch.tensor(rows, dtype=torch.float64), clip)
    assert bool(torch.isfinite(found).all())
    assert float(found.norm(dim=1).max()) <= clip * (1 + 1e-12)


def around(toy: Toy, trained: Population, examples: list[Example]) -> Curves:
    rows = encode_all(toy.base, trained.basis, examples)
    with passes(plora.Engine(toy.base, trained.basis), rows) as run:
        return curves(run, torch.zeros(run.count, trained.basis.spec.dimensions))


def told_apart(one: Tensor, other: Tensor) -> float:
    """Standard deviations between two clouds along the line between their middles: no more than mu, if it is kept."""
    half = len(one) // 2  # the line is found on one half of the draws and judged on the other
    line = one[:half].mean(0) - other[:half].mean(0)
    inverse = torch.linalg.inv(
        torch.cov(torch.cat([one[:half] - one[:half].mean(0), other[:half] - other[:half].mean(0)]).T)
    )
    here, there = (cloud[half:] @ (inverse @ line) for cloud in (one, other))
    return float((here.mean() - there.mean()) / (0.5 * (here.var() + there.var())).sqrt())


class Loud(Curves):
    """Flat curves of which the first row of every user pulls as hard as it likes, the others not at all."""

    def __init__(self, rows: int, d: int, every: int, pull: float) -> None:
        self.losses, self.information = torch.zeros(rows), torch.zeros(rows, d, d)
        self.gradients = torch.zeros(rows, d, dtype=torch.float64)
        self.gradients[::every] = pull
        self.passes = 1.0

    def moved(self, moves: Tensor) -> "Loud":  # noqa: ARG002
        return self

    losses_at = judged_at = narrowed = moved


@pytest.mark.parametrize(("epsilon", "looks"), [(1.0, 1), (4.0, 4)])
def test_the_worst_example_is_told_from_a_blank_no_better_than_promised(bert: Toy, epsilon: float, looks: int) -> None:
    """5,000 releases with and without an example that pulls far too hard; noise cut in half is seen."""
    draws, each, basis = 5_000, 4, bert.basis  # it bends alike in all directions: nothing of a look is lost
    owner = torch.repeat_interleave(torch.arange(draws), each)
    shouting, silent = (Loud(draws * each, basis.spec.dimensions, each, pull) for pull in (1e6, 0.0))

    def apart(privacy: Privacy) -> float:
        clouds = [released(found, owner, basis, FitSettings(), privacy) for found in (shouting, silent)]
        return told_apart(*clouds)

    privacy = Privacy(epsilon, DELTA, looks=looks, source=Random(1))
    assert 0.7 * privacy.mu < apart(privacy) < 1.05 * privacy.mu + 0.05
    careless = replace(privacy, epsilon=epsilon_of(2 * privacy.mu, DELTA))  # what half of the noise keeps
    assert apart(careless) > 1.05 * privacy.mu + 0.05


def test_where_noise_drowns_the_user_the_population_speaks(bert: Toy, trained: Population) -> None:
    mean = trained.basis.prior_mean
    drowned = vectors(bert, trained, crowd(8), Privacy(0.001, source=Random(3)))
    heard = vectors(bert, trained, crowd(8), Privacy(math.inf))
    assert float((drowned - mean).norm(dim=1).max()) < 0.2
    assert float((heard - mean).norm(dim=1).min()) > 0.3


def test_nothing_is_told_beside_the_vector(bert: Toy, trained: Population) -> None:
    (made,) = plora.fit(bert.base, trained.basis, crowd(1), FitSettings(privacy=Privacy(4.0)))
    assert isinstance(made, Fitted)
    assert math.isnan(made.loss)
    assert math.isnan(made.loss_before)
    assert (made.left_out, made.bias, made.statistics) == (None, None, None)
    assert (made.left_out_losses, made.generic_losses) == ((), ())


def test_a_refit_and_an_optimizer_of_its_own_are_refused(bert: Toy, trained: Population) -> None:
    settings = FitSettings(privacy=Privacy(4.0))
    (plain,) = plora.fit(bert.base, trained.basis, crowd(1))
    with pytest.raises(InvalidSetting, match="refit"):
        plora.refit(bert.base, trained.basis, [plora.Refit(plain.statistics, crowd(1)[0])], settings)
    with pytest.raises(InvalidSetting, match="optimizer"):
        FitSettings(optimizer=Optimizer.ADAM, privacy=Privacy(4.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"epsilon": 101.0},
        {"epsilon": 1.0, "delta": 0.0},
        {"epsilon": 1.0, "delta": 0.1},
        {"epsilon": 1.0, "clip": 0.0},
        {"epsilon": 1.0, "clip": math.inf},
        {"epsilon": 1.0, "clip": math.nan},
        {"epsilon": 1.0, "looks": 0},
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidSetting):
        Privacy(**wrong)
