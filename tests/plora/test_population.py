"""Population training: a Basis learned from many toy users."""

import dataclasses
import math

import pytest
import torch

import plora
from plora import Basis, Example, Judged, MutualInformation, NothingToLearn, PopulationSettings, Progress, Reach
from tests.plora import toys
from tests.plora.conftest import Toy

QUICK = PopulationSettings(
    rank=4, dimensions=4, epochs=4, shared_rate=1e-2, user_rate=2e-2, reach=Reach.TARGETS, label_bias=False
)


def train(toy: Toy, *, users: int = 8, examples: int = 6, settings: PopulationSettings = QUICK) -> plora.Population:
    return plora.train_population(toy.base, toys.toy_population(users, examples), settings)


@pytest.mark.parametrize("mode", list(MutualInformation))
def test_every_mutual_information_mode_learns(bert: Toy, mode: MutualInformation) -> None:
    settings = dataclasses.replace(QUICK, epochs=6, mutual_information=mode)
    history = train(bert, settings=settings).history
    assert len(history) == 6
    assert all(math.isfinite(loss) for loss in history)
    assert history[-1] < history[0] - 0.02


@pytest.mark.parametrize("mode", list(MutualInformation))
def test_a_causal_model_learns_a_population_too(any_lm: Toy, mode: MutualInformation) -> None:
    settings = dataclasses.replace(QUICK, mutual_information=mode)
    made = train(any_lm, settings=settings)
    assert made.basis.labels == ()
    assert made.basis.head() == {}
    assert made.history[-1] < made.history[0]


def test_population_training_works_with_heads_of_every_form(any_classifier: Toy) -> None:
    made = train(any_classifier, settings=dataclasses.replace(QUICK, mutual_information=MutualInformation.REFERENCE))
    assert made.basis.labels == ("dislike", "like")
    assert made.history[-1] < made.history[0]
    with plora.attached(any_classifier.base, made.basis):
        assert any_classifier.logits().shape == (4, 2)


def test_training_leaves_the_model_as_it_was(bert: Toy) -> None:
    names = [(name, id(child)) for name, child in bert.base.module.named_modules()]
    state, before = toys.state_hash(bert.base.module.state_dict()), bert.logits()
    train(bert, settings=dataclasses.replace(QUICK, epochs=1, dropout=0.1))
    assert [(name, id(child)) for name, child in bert.base.module.named_modules()] == names
    assert toys.state_hash(bert.base.module.state_dict()) == state
    assert torch.equal(bert.logits(), before)
    assert not any(p.requires_grad for p in bert.base.module.parameters())
    assert not bert.base.module.training


def test_the_same_seed_gives_the_same_bytes_whatever_the_global_random_state(bert: Toy) -> None:
    settings = dataclasses.replace(
        QUICK, epochs=2, dropout=0.2, mutual_information=MutualInformation.INFOMAX, personalized_dropout=0.3
    )
    found = set()
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        before = torch.random.get_rng_state()
        found.add(plora.dumps(train(bert, settings=settings).basis))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert len(found) == 1
    assert plora.dumps(train(bert, settings=dataclasses.replace(settings, seed=1)).basis) not in found


def test_progress_is_told_after_every_epoch(bert: Toy) -> None:
    told: list[Progress] = []
    made = plora.train_population(bert.base, toys.toy_population(4, 4), QUICK, told.append)
    assert [(p.epoch, p.epochs) for p in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert tuple(p.loss for p in told) == made.history


def test_a_listener_that_raises_ends_the_training_and_frees_the_model(bert: Toy) -> None:
    def stop(_: Progress) -> None:
        raise ZeroDivisionError

    before = bert.logits()
    with pytest.raises(ZeroDivisionError):
        plora.train_population(bert.base, toys.toy_population(4, 4), QUICK, stop)
    assert torch.equal(bert.logits(), before)


def test_whitened_vectors_have_unit_spread_and_say_what_the_trained_ones_said(trained: plora.Population) -> None:
    vectors = trained.vectors
    torch.testing.assert_close(trained.basis.prior_mean, vectors.mean(0), atol=1e-4, rtol=1e-4)
    variances = vectors.var(0)
    assert bool((variances < 1.01).all())
    assert float(variances.max()) > 0.8


def test_a_population_user_is_served_better_by_their_own_vector(bert: Toy, trained: plora.Population) -> None:
    population = toys.toy_population(16, 8)
    members = [
        Judged(plora.Adapter.of(trained.basis, vector), [], examples)
        for vector, examples in zip(trained.vectors, population, strict=True)
    ]
    scores = plora.score(bert.base, trained.basis, members)
    assert sum(s.gain for s in scores) / len(scores) > 0.05
    assert sum(s.personal.accuracy - s.wrong_user.accuracy for s in scores) > 0


def test_personalized_dropout_keeps_the_generic_model_trained(bert: Toy) -> None:
    """Three users of four like everything: without it nothing ever trains what p = 0 says."""
    tribes = (("the",), ("the",), ("the",), ())
    population = toys.toy_population(16, 4, tribes=tribes)

    def generic_loss(rate: float) -> float:
        settings = dataclasses.replace(QUICK, epochs=12, personalized_dropout=rate, prior=0.0)
        basis = plora.train_population(bert.base, population, settings).basis
        nobody = plora.Adapter.of(basis, torch.zeros(4))
        scores = plora.score(bert.base, basis, [Judged(nobody, [], examples) for examples in population])
        return sum(s.generic.nll for s in scores) / len(scores)

    assert generic_loss(0.4) <= generic_loss(0.0) + 0.02


def test_users_without_examples_are_kept_in_their_place(bert: Toy) -> None:
    some, others = toys.toy_population(2, 4)
    made = plora.train_population(bert.base, [[], some, [], others, []], QUICK)
    assert made.vectors.shape == (5, 4)
    assert bool(torch.isfinite(made.vectors).all())


def test_one_user_and_few_examples_are_enough_to_train(bert: Toy) -> None:
    one = [Example("the soup was good", "like"), Example("", "dislike")]
    for mode in MutualInformation:
        made = plora.train_population(
            bert.base, [one], dataclasses.replace(QUICK, epochs=1, mutual_information=mode, dimensions=16)
        )
        assert all(bool(torch.isfinite(value).all()) for value in made.basis.tensors.values())


@pytest.mark.parametrize("population", [[], [[]], [[Example("the soup", "like")], [Example("the bed", "like")]]])
def test_nothing_to_learn_is_said_so(bert: Toy, population: list[list[Example]]) -> None:
    with pytest.raises(NothingToLearn):
        plora.train_population(bert.base, population, QUICK)


def test_targets_that_the_model_lacks_are_answered_with_those_it_has(bert: Toy) -> None:
    with pytest.raises(plora.TargetsNotFound, match="query"):
        train(bert, settings=dataclasses.replace(QUICK, targets=("c_attn",)))


def test_only_the_last_layers_are_adapted_where_asked(bert: Toy) -> None:
    made = train(bert, settings=dataclasses.replace(QUICK, epochs=1, last_layers=1))
    assert {name.split(".")[3] for name in made.basis.spec.targets} == {"1"}


def test_a_fresh_basis_is_drawn_from_its_seed_alone(bert: Toy) -> None:
    spec = bert.fresh.spec
    again = plora.fresh_basis(bert.base.module, spec, 0)
    assert again.fingerprint == bert.fresh.fingerprint
    assert plora.fresh_basis(bert.base.module, spec, 1).fingerprint != bert.fresh.fingerprint
    for name, value in again.tensors.items():
        if name.startswith("B."):
            assert not value.any()
        if name[:2] in {"A.", "P."}:
            assert value.abs().max() <= 1 / math.sqrt(value.shape[1])


def test_a_basis_cannot_be_rewired(bert: Toy) -> None:
    with pytest.raises(TypeError):
        bert.basis.tensors["prior.mean"] = torch.ones(8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        bert.basis.fingerprint = "0" * 64
    tensors = dict(bert.basis.tensors)
    copy = Basis(bert.basis.spec, tensors)
    tensors.clear()
    assert copy.fingerprint == bert.basis.fingerprint
    assert copy.tensors.keys() == bert.basis.tensors.keys()
