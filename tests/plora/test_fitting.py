"""Fitting one user: only the vector changes, whatever the user's examples are."""

import dataclasses

import pytest
import torch

import plora
from plora import Adapter, Example, FitFailed, FitFailure, FitSettings, Fitted
from tests.plora import toys
from tests.plora.conftest import Toy

LIKES_ALL = toys.reviews(6, 5, ("the",))
ONE = [Example("the soup was good", "like")]


def fit_one(
    toy: Toy, basis: plora.Basis, examples: list[Example], settings: FitSettings | None = None
) -> Fitted | FitFailed:
    (outcome,) = plora.fit(toy.base, basis, [examples], settings)
    return outcome


def test_fitting_changes_nothing_but_the_vector(any_toy: Toy) -> None:
    module, basis = any_toy.base.module, any_toy.basis
    names = [(name, id(child)) for name, child in module.named_modules()]
    model, shared, modes = toys.state_hash(module.state_dict()), toys.state_hash(basis.tensors), module.training
    random = torch.random.get_rng_state()
    outcome = fit_one(any_toy, basis, LIKES_ALL)
    assert isinstance(outcome, Fitted)
    assert outcome.adapter.vector.any()
    assert toys.state_hash(module.state_dict()) == model
    assert toys.state_hash(basis.tensors) == shared
    assert [(name, id(child)) for name, child in module.named_modules()] == names
    assert all(p.grad is None and not p.requires_grad for p in module.parameters())
    assert module.training == modes
    assert torch.equal(torch.random.get_rng_state(), random)


def test_fitting_lowers_the_loss_and_says_by_how_much(any_toy: Toy) -> None:
    outcome = fit_one(any_toy, any_toy.basis, LIKES_ALL, FitSettings(prior=0.01))
    assert isinstance(outcome, Fitted)
    assert outcome.loss < outcome.loss_before
    assert 1 <= outcome.steps <= 12
    (scores,) = plora.score(any_toy.base, any_toy.basis, [plora.Judged(outcome.adapter, [], LIKES_ALL)])
    assert scores.generic.nll == pytest.approx(outcome.loss_before, abs=1e-5)
    assert scores.personal.nll == pytest.approx(outcome.loss, abs=1e-5)


def test_an_adapter_names_its_basis_and_base_model(bert: Toy) -> None:
    outcome = fit_one(bert, bert.basis, ONE)
    assert isinstance(outcome, Fitted)
    assert (outcome.adapter.basis, outcome.adapter.base) == (bert.basis.fingerprint, bert.base.fingerprint)
    assert outcome.adapter.vector.shape == (8,)


@pytest.mark.parametrize(
    "examples",
    [
        ONE,
        [Example("", "like")],
        [Example("   ", "dislike")],
        [Example("静かな宿で朝食が美味しい。また泊まりたい", "like")],
        [Example("très bon 👍🏽", "like")],
        [Example("the soup was very very good and " * 40, "like")],
        LIKES_ALL,
        ONE * 3 + [Example("the soup was good", "dislike")],
    ],
    ids=["one example", "empty", "blank", "Japanese", "emoji", "overlong", "one class", "contradiction"],
)
def test_unusual_examples_are_learned_from(any_toy: Toy, examples: list[Example]) -> None:
    outcome = fit_one(any_toy, any_toy.basis, examples, FitSettings(steps=3))
    assert isinstance(outcome, Fitted)
    assert bool(torch.isfinite(outcome.adapter.vector).all())
    assert outcome.loss < 100


def test_a_user_without_examples_is_said_so_and_the_others_are_fitted(bert: Toy, trained: plora.Population) -> None:
    first, nobody, last = plora.fit(bert.base, trained.basis, [ONE, [], LIKES_ALL])
    assert nobody == FitFailed(FitFailure.NO_EXAMPLES)
    assert isinstance(first, Fitted)
    assert isinstance(last, Fitted)
    assert plora.fit(bert.base, trained.basis, [[]]) == [nobody]
    assert plora.fit(bert.base, trained.basis, []) == []


def test_an_unknown_label_fails_its_own_user_only(bert: Toy, trained: plora.Population) -> None:
    strange = [*ONE, Example("the bed was bad", "no such label")]
    first, failed, last = plora.fit(bert.base, trained.basis, [ONE, strange, LIKES_ALL])
    assert failed == FitFailed(FitFailure.UNKNOWN_LABEL)
    for outcome, examples in ((first, ONE), (last, LIKES_ALL)):
        alone = fit_one(bert, trained.basis, examples)
        assert isinstance(outcome, Fitted)
        assert isinstance(alone, Fitted)
        assert torch.equal(outcome.adapter.vector, alone.adapter.vector)


def test_a_newcomer_with_few_examples_is_served_better_than_by_the_generic_model(
    bert: Toy, trained: plora.Population
) -> None:
    newcomers = toys.toy_population(8, 16, seed=7, tribes=toys.TRIBES[:2])
    outcomes = plora.fit(bert.base, trained.basis, [user[:8] for user in newcomers])
    judged = [
        plora.Judged(outcome.adapter, user[:8], user[8:])
        for outcome, user in zip(outcomes, newcomers, strict=True)
        if isinstance(outcome, Fitted)
    ]
    scores = plora.score(bert.base, trained.basis, judged)
    assert len(scores) == 8
    assert all(s.gain > 0 for s in scores)
    assert sum(s.personal.accuracy - s.generic.accuracy for s in scores) / 8 > 0.2


def test_more_examples_pull_further_from_the_prior(bert: Toy, trained: plora.Population) -> None:
    few, many = plora.fit(bert.base, trained.basis, [LIKES_ALL[:1], LIKES_ALL * 5])
    mean = trained.basis.prior_mean
    assert isinstance(few, Fitted)
    assert isinstance(many, Fitted)
    assert (few.adapter.vector - mean).norm() < (many.adapter.vector - mean).norm()
    strict = fit_one(bert, trained.basis, LIKES_ALL, FitSettings(prior=1e4, steps=30, rate=0.01, tolerance=0))
    loose = fit_one(bert, trained.basis, LIKES_ALL, FitSettings(prior=0.0))
    assert isinstance(strict, Fitted)
    assert isinstance(loose, Fitted)
    assert (strict.adapter.vector - mean).norm() < (loose.adapter.vector - mean).norm()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"prior": -1.0}, {"prior": float("nan")}, {"directions": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(plora.InvalidSetting):
        FitSettings(**wrong)


def test_a_user_whose_objective_no_longer_improves_stops_early(bert: Toy) -> None:
    dead = plora.Basis(bert.basis.spec, {n: v * (not n.startswith("B.")) for n, v in bert.basis.tensors.items()})
    dead = plora.Basis(dead.spec, {**dead.tensors, "prior.mean": torch.zeros(8)})
    patient = FitSettings(steps=50, patience=4)
    outcome = fit_one(bert, dead, LIKES_ALL, patient)
    assert isinstance(outcome, Fitted)
    assert outcome.steps <= 5
    assert not outcome.adapter.vector.any()


def test_the_same_input_gives_the_same_adapter_bytes(any_toy: Toy) -> None:
    cohort = toys.toy_population(3, 3)
    found = set()
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        outcomes = plora.fit(any_toy.base, any_toy.basis, cohort, FitSettings(steps=3))
        found.add(b"".join(plora.dumps(o.adapter) for o in outcomes if isinstance(o, Fitted)))
    assert len(found) == 1


def test_an_adapter_refuses_what_is_no_vector(bert: Toy) -> None:
    for vector in (torch.zeros(2, 4), torch.zeros(8, dtype=torch.float64), torch.full((8,), torch.nan)):
        with pytest.raises(plora.MalformedAdapter):
            Adapter(bert.base.fingerprint, bert.basis.fingerprint, vector)
    with pytest.raises(plora.MalformedAdapter, match="7 numbers, not 8"):
        Adapter.of(bert.basis, torch.zeros(7))


def test_contents_never_show_in_a_repr(bert: Toy) -> None:
    outcome = fit_one(bert, bert.basis, ONE)
    assert isinstance(outcome, Fitted)
    shown = repr([ONE, outcome, outcome.adapter, bert.basis, plora.Judged(outcome.adapter, ONE, ONE)])
    assert "soup" not in shown
    assert "like" not in shown.replace("dislike", "").replace("labels=('', 'like')", "")
    assert "tensor(" not in shown
    assert dataclasses.is_dataclass(outcome)
