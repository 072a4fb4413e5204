"""The Gauss-Newton fit: its derivatives, its optimum, its damping, and what it says of examples left out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plora
from plora import Basis, Engine, Example, FitSettings, Fitted, Optimizer
from plora.curves import TokenCurves, by_user, curves
from plora.examples import encode_all
from plora.links import CategoricalLink, OrdinalLink
from plora.passes import passes
from plora.statistics import newton_moves
from tests.plora import toys
from tests.plora.conftest import Toy

MANY = toys.reviews(12, 5, ("good",))


def scaled(basis: Basis, factor: float) -> Basis:
    """A Basis whose user part is weaker: losses nearly quadratic in the vector."""
    return Basis(basis.spec, {n: v * (factor if n.startswith("P.") else 1.0) for n, v in basis.tensors.items()})


def lm_examples() -> list[Example]:
    return [Example("the soup was", "very good"), Example("the room was", "bad"), Example("the bed was very", "good")]


@given(st.integers(2, 6), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_links_give_the_slopes_of_their_log_probabilities(labels: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    thresholds = torch.randn(labels - 1, generator=draw).double().sort().values + torch.arange(labels - 1) * 0.3
    for link in (CategoricalLink(labels), OrdinalLink(thresholds)):
        z = torch.randn(3, link.width, generator=draw).double().requires_grad_()
        chances = link.log_chances(z)
        assert torch.allclose(chances.exp().sum(-1), torch.ones(3).double(), atol=1e-5)
        for label in range(labels):
            (slope,) = torch.autograd.grad(chances[:, label].sum(), z, retain_graph=True)
            torch.testing.assert_close(link.scores(z.detach())[:, label], slope, atol=1e-6, rtol=1e-5)


def test_a_classifiers_gradients_and_information_are_autograds(any_classifier: Toy) -> None:
    rows = encode_all(any_classifier.base, any_classifier.basis, MANY)
    vectors = toys.vectors(len(rows)) * 0.3
    with passes(Engine(any_classifier.base, any_classifier.basis), rows) as run:
        found = curves(run, vectors)
        losses, gradients = run.gradients(vectors)
    torch.testing.assert_close(found.losses.float(), losses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.gradients.float(), gradients, atol=1e-5, rtol=1e-4)
    for row, information in enumerate(found.information):  # two labels: E[score score^T] over both answers
        chance = math.exp(-float(found.losses[row]))
        odds = chance / (1 - chance)
        torch.testing.assert_close(
            information, odds * torch.outer(found.gradients[row], found.gradients[row]), atol=1e-7, rtol=1e-4
        )


def test_a_causal_models_information_by_pseudo_users_is_the_exact_one(any_lm: Toy) -> None:
    rows = encode_all(any_lm.base, any_lm.basis, lm_examples())
    vectors = toys.vectors(3) * 0.1
    basis = scaled(any_lm.basis, 0.2)
    with passes(Engine(any_lm.base, basis), rows) as run:
        found = curves(run, vectors, directions=8)
        assert isinstance(found, TokenCurves)
        for batch in run.batches():
            for at, index in enumerate(batch.index.tolist()):
                exact = _exact_information(run, batch, at, vectors[index])
                assert float((found.information[index] - exact).norm() / exact.norm()) < 0.05


def _exact_information(run: plora.passes.Passes, batch: object, at: int, vector: torch.Tensor) -> torch.Tensor:
    def logits(v: torch.Tensor) -> torch.Tensor:
        rows = torch.zeros(batch.ids.shape[0], len(v))
        rows[at] = v
        wanted = batch.targets[at, 1:] != -100
        return run.logits(batch, rows)[at, :-1][wanted]

    jacobian = torch.autograd.functional.jacobian(logits, vector)  # (tokens, vocabulary, d)
    chances = logits(vector).softmax(-1).detach()
    centred = jacobian - (chances[..., None] * jacobian).sum(1, keepdim=True)
    return torch.einsum("tv,tvi,tvj->ij", chances, centred, centred).double() / len(chances)


def test_newton_and_adam_reach_the_same_optimum_where_the_loss_is_nearly_a_parabola(any_classifier: Toy) -> None:
    basis = scaled(any_classifier.basis, 0.1)
    (newton,) = plora.fit(any_classifier.base, basis, [MANY], FitSettings(steps=4, prior=1.0, tolerance=0))
    slow = FitSettings(optimizer=Optimizer.ADAM, steps=400, rate=0.05, prior=1.0, progress=0, patience=10**6)
    (adam,) = plora.fit(any_classifier.base, basis, [MANY], slow)
    assert isinstance(newton, Fitted)
    assert isinstance(adam, Fitted)
    assert newton.passes <= 8
    torch.testing.assert_close(newton.adapter.vector, adam.adapter.vector, atol=5e-3, rtol=2e-2)


def test_a_causal_models_newton_fit_lowers_its_loss_within_its_directions(any_lm: Toy) -> None:
    basis = Basis(any_lm.basis.spec, {**any_lm.basis.tensors, "prior.mean": torch.zeros(8)})
    (few,) = plora.fit(any_lm.base, basis, [lm_examples()], FitSettings(directions=3, prior=0.5))
    assert isinstance(few, Fitted)
    assert few.loss < few.loss_before
    assert few.adapter.vector[:3].all()
    assert not few.adapter.vector[3:].any()


def test_a_step_that_the_true_loss_does_not_confirm_is_damped(bert: Toy) -> None:
    wild = scaled(bert.basis, 30.0)  # far from a parabola: full steps overshoot
    cohort = [toys.reviews(4, seed, ("good",)) for seed in range(20)]
    outcomes = plora.fit(bert.base, wild, cohort, FitSettings(prior=0.01))
    damped = [outcome for outcome in outcomes if isinstance(outcome, Fitted) and outcome.statistics is None]
    assert damped  # a damped fit cannot be continued, so it gives no statistics
    mean = wild.prior_mean
    for outcome in outcomes:
        assert isinstance(outcome, Fitted)
        n, pull = 4, 0.5 * 0.01
        before = n * outcome.loss_before + pull * float(mean.square().sum())
        after = n * outcome.loss + pull * float((outcome.adapter.vector - mean).square().sum())
        assert after <= before + 1e-4


def test_leave_one_out_losses_are_those_of_brute_force_refits(any_classifier: Toy) -> None:
    basis = scaled(any_classifier.basis, 0.15)
    chosen = FitSettings(prior=1.0)
    (whole,) = plora.fit(any_classifier.base, basis, [MANY], chosen)
    assert isinstance(whole, Fitted)
    assert whole.left_out is not None
    others = [[each for at, each in enumerate(MANY) if at != left] for left in range(len(MANY))]
    refits = plora.fit(any_classifier.base, basis, others, chosen)
    judged = [
        plora.Judged(refit.adapter, [], [MANY[left]]) for left, refit in enumerate(refits) if isinstance(refit, Fitted)
    ]
    scores = plora.score(any_classifier.base, basis, judged)
    by_force = sum(each.personal.nll for each in scores) / len(scores)
    gained = sum(each.gain for each in scores) / len(scores)
    assert whole.left_out.examples == len(MANY)
    assert whole.left_out.personal.nll == pytest.approx(by_force, abs=0.01)
    assert whole.left_out.gain == pytest.approx(gained, abs=0.01)
    assert sum(whole.left_out_losses) / len(MANY) == pytest.approx(whole.left_out.personal.nll)
    assert whole.left_out.personal.nll > whole.loss  # what was learned is cheaper than what was not


def test_the_posterior_is_narrower_with_every_example(bert: Toy) -> None:
    spread = []
    for count in (1, 4, 12):
        (outcome,) = plora.fit(bert.base, bert.basis, [MANY[:count]])
        assert isinstance(outcome, Fitted)
        assert outcome.statistics is not None
        spread.append(float(outcome.statistics.covariance().trace()))
    assert spread[0] > spread[1] > spread[2]
    assert spread[0] < len(bert.basis.prior_mean) / FitSettings().prior  # and always narrower than the prior


def test_a_users_share_of_the_passes_is_counted(bert: Toy) -> None:
    (one,) = plora.fit(bert.base, bert.basis, [MANY], FitSettings(prior=5.0))
    assert isinstance(one, Fitted)
    assert (one.steps, one.passes) == (1, 1.5)  # forward, backward, and a forward that judges
    (two,) = plora.fit(bert.base, bert.basis, [MANY], FitSettings(steps=2, prior=5.0, tolerance=0))
    assert isinstance(two, Fitted)
    assert (two.steps, two.passes) == (2, 3.0)


def test_a_user_whose_losses_were_foreseen_takes_no_second_step(bert: Toy) -> None:
    flat = scaled(bert.basis, 0.05)
    (outcome,) = plora.fit(bert.base, flat, [MANY], FitSettings(steps=3))
    assert isinstance(outcome, Fitted)
    assert outcome.steps == 1


def test_texts_that_users_share_are_run_once(bert: Toy) -> None:
    rows = encode_all(bert.base, bert.basis, [Example("the soup was good", label) for label in ("like", "dislike")] * 3)
    engine = Engine(bert.base, bert.basis)
    with passes(engine, rows) as run:
        found = curves(run, torch.zeros(6, 8))
        assert int(run.firsts.sum()) == 1
    alone = []
    for row in rows[:2]:
        with passes(engine, [row]) as run:
            alone.append(curves(run, torch.zeros(1, 8)).gradients[0])
    assert all(torch.equal(found.gradients[at], alone[at % 2]) for at in range(6))


def test_a_singular_sum_stays_where_it_is() -> None:
    information = torch.stack([torch.zeros(3, 3), torch.eye(3)]).double()
    moves = newton_moves(information, torch.ones(2, 3).double(), torch.zeros(2).double())
    assert not moves[0].any()
    assert torch.allclose(moves[1], -torch.ones(3).double())


def test_without_a_prior_a_fit_of_one_example_is_still_defined(bert: Toy) -> None:
    (outcome,) = plora.fit(bert.base, bert.basis, [MANY[:1]], FitSettings(prior=0.0))
    assert isinstance(outcome, Fitted)
    assert outcome.loss <= outcome.loss_before + 1e-6


def test_sums_per_user_do_not_depend_on_who_else_is_summed() -> None:
    values = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).double()
    owner = torch.repeat_interleave(torch.arange(5), 10)
    together = by_user(values, owner, 5)
    for user in range(5):
        alone = by_user(values[owner == user], torch.zeros(10, dtype=torch.long), 1)
        assert torch.equal(together[user], alone[0])
