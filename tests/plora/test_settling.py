"""Users who enter at the task head: what is settled, what it is worth, and that it is the same everywhere."""

import dataclasses

import pytest
import torch

import plora
from plora import Engine, Example, FitSettings, Fitted, Link, Population, PopulationSettings, Precision, Reach
from plora.examples import encode_all
from plora.passes import passes
from tests.plora import toys
from tests.plora.conftest import Toy

QUICK = PopulationSettings(rank=4, dimensions=4, epochs=2, last_layers=1)
TEXTS = ["the soup was good", "the room was bad", "the bed was very good", ""]


@pytest.fixture(scope="module")
def settled(bert: Toy) -> Population:
    return plora.train_population(bert.base, toys.toy_population(24, 12), QUICK)


def fitted(toy: Toy, made: Population, examples: list[Example]) -> Fitted:
    (outcome,) = plora.fit(toy.base, made.basis, [examples])
    assert isinstance(outcome, Fitted)
    return outcome


def test_users_reach_the_head_and_no_target(settled: Population) -> None:
    spec, tensors = settled.basis.spec, settled.basis.tensors
    assert (spec.bias, spec.mixing, spec.dimensions) == (1, True, 5)
    assert not any(value.any() for name, value in tensors.items() if name.startswith("P."))
    assert not tensors["M"][: spec.bias].any()
    assert tensors["M"][spec.bias :].any()
    assert settled.vectors.shape == (24, 5)
    read = plora.loads_basis(plora.dumps(settled.basis))
    assert read.fingerprint == settled.basis.fingerprint
    assert read.spec == spec


def test_newcomers_are_predicted_better_than_by_generic_and_label_bias(bert: Toy, settled: Population) -> None:
    newcomers = toys.toy_population(16, 24, seed=7)
    cohort = plora.fit(bert.base, settled.basis, [user[:12] for user in newcomers])
    judged = [
        plora.Judged(each.adapter, user[:12], user[12:])
        for each, user in zip(cohort, newcomers, strict=True)
        if isinstance(each, Fitted)
    ]
    scores = plora.score(bert.base, settled.basis, judged)
    told = [each.left_out for each in cohort if isinstance(each, Fitted) and each.left_out is not None]
    assert sum(each.gain for each in scores) / 16 > 0.1
    assert sum(each.lead for each in scores) / 16 > 0.05  # over the label prior
    assert sum(each.lead for each in told) / 16 > 0.03  # over the label bias, left out
    assert sum(each.gain for each in told) / 16 == pytest.approx(sum(each.gain for each in scores) / 16, abs=0.15)


def test_users_who_do_not_differ_get_no_content(bert: Toy) -> None:
    made = plora.train_population(bert.base, toys.toy_population(16, 10, tribes=(("good",),)), QUICK)
    outcome = fitted(bert, made, toys.reviews(12, 99, ("good",)))
    assert made.basis.divergence(outcome.adapter.vector - made.basis.label_bias(outcome.adapter.vector)) < 0.01


@pytest.mark.parametrize("link", list(Link))
def test_heads_of_every_form_are_settled(any_classifier: Toy, link: Link) -> None:
    population = [
        [Example(each.text, "2" if each.target == "like" else "1") for each in user]
        for user in toys.toy_population(12, 8)
    ]
    made = plora.train_population(any_classifier.base, population, dataclasses.replace(QUICK, link=link))
    outcome = fitted(any_classifier, made, population[0])
    assert outcome.loss < outcome.loss_before
    engine = Engine(any_classifier.base, made.basis)
    rows = encode_all(any_classifier.base, made.basis, [Example(text, "1") for text in TEXTS])
    with passes(engine, rows) as run:
        own = run.each(outcome.adapter.vector.expand(len(rows), -1), lambda logits, _: logits.log_softmax(-1).float())
    answers = plora.predict(any_classifier.base, made.basis, TEXTS, [outcome.adapter] * len(TEXTS))
    for row, answer in zip(own, answers, strict=True):
        expected = torch.tensor([answer.probabilities[label] for label in made.basis.labels])
        torch.testing.assert_close(row.exp(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_alone_and_in_a_crowd_are_the_same_bits(bert: Toy, settled: Population, precision: Precision) -> None:
    crowd = [toys.reviews(3 + at % 6, 300 + at, toys.TRIBES[at % 4]) for at in range(40)]
    together = plora.fit(bert.base, settled.basis, crowd, FitSettings(precision=precision))
    for at in (0, 17, 39):
        (alone,) = plora.fit(bert.base, settled.basis, [crowd[at]], FitSettings(precision=precision))
        one = together[at]
        assert isinstance(alone, Fitted)
        assert isinstance(one, Fitted)
        assert torch.equal(alone.adapter.vector, one.adapter.vector)
        assert alone.left_out == one.left_out
        assert alone.bias is not None
        assert one.bias is not None
        assert torch.equal(alone.bias.adapter.vector, one.bias.adapter.vector)
        assert alone.bias.left_out == one.bias.left_out


def test_the_same_seed_gives_the_same_bytes(bert: Toy) -> None:
    made = {plora.dumps(plora.train_population(bert.base, toys.toy_population(6, 6), QUICK).basis) for _ in range(2)}
    assert len(made) == 1


def test_the_label_bias_alone_moves_every_text_alike(bert: Toy, settled: Population) -> None:
    outcome = fitted(bert, settled, toys.reviews(10, 5, ("good", "bad")))  # likes everything
    assert outcome.bias is not None
    vector = outcome.bias.adapter.vector
    assert torch.equal(vector, settled.basis.label_bias(vector))
    own = plora.predict(bert.base, settled.basis, TEXTS, [outcome.bias.adapter] * 4)
    generic = plora.predict(bert.base, settled.basis, TEXTS, [None] * 4)

    def odds(answer: plora.Answer) -> float:
        share = torch.tensor(answer.probabilities["like"], dtype=torch.float64)
        return float(torch.logit(share))

    moves = [odds(a) - odds(b) for a, b in zip(own, generic, strict=True)]
    assert moves[0] > 0.2
    assert moves == pytest.approx([moves[0]] * 4, abs=1e-3)


def test_divergence_is_the_mean_kl_to_second_order(bert: Toy, settled: Population) -> None:
    population = toys.toy_population(24, 12)
    texts = [each.text for user in population for each in user][:200]
    vector = settled.basis.prior_mean * 0 + 0.2
    own, generic = (
        plora.predict(bert.base, settled.basis, texts, [user] * len(texts))
        for user in (plora.Adapter.of(settled.basis, vector), None)
    )
    exact = sum(
        sum(p * torch.log(torch.tensor(p / g.probabilities[label])).item() for label, p in o.probabilities.items())
        for o, g in zip(own, generic, strict=True)
    ) / len(texts)
    assert settled.basis.divergence(vector) == pytest.approx(exact, rel=0.5)
    assert settled.basis.divergence(vector, vector) == 0


def test_leave_one_out_losses_are_those_of_refits(bert: Toy, settled: Population) -> None:
    many = toys.reviews(8, 3, ("good",))
    whole = fitted(bert, settled, many)
    assert whole.left_out is not None
    found = []
    for at, example in enumerate(many):
        rest = fitted(bert, settled, [each for n, each in enumerate(many) if n != at])
        (score,) = plora.score(bert.base, settled.basis, [plora.Judged(rest.adapter, [], [example])])
        found.append(score.personal.nll)
    assert whole.left_out.personal.nll == pytest.approx(sum(found) / 8, abs=0.03)
    assert whole.left_out_losses == pytest.approx(found, abs=0.15)


def test_only_the_examples_named_are_evidence(bert: Toy, settled: Population) -> None:
    many = toys.reviews(8, 4, ("good",))
    (some,) = plora.fit(bert.base, settled.basis, [many], judged=[[1, 5]])
    (none,) = plora.fit(bert.base, settled.basis, [many], judged=[[]])
    assert isinstance(some, Fitted)
    assert isinstance(none, Fitted)
    assert torch.equal(some.adapter.vector, none.adapter.vector)
    assert some.left_out is not None
    assert none.left_out is not None
    assert some.left_out.examples == 2
    assert some.left_out.personal.nll == pytest.approx((some.left_out_losses[1] + some.left_out_losses[5]) / 2)
    assert none.left_out.examples == 0


def test_scores_of_two_halves_are_those_of_the_whole(bert: Toy, settled: Population) -> None:
    many = toys.reviews(9, 6, ("good",))
    parts = [
        plora.fit(bert.base, settled.basis, [many], judged=[list(chosen)])[0] for chosen in (range(4), range(4, 9))
    ]
    first, second = (part.left_out for part in parts if isinstance(part, Fitted))
    whole = fitted(bert, settled, many).left_out
    assert first is not None
    assert second is not None
    assert whole is not None
    joined = first.plus(second)
    assert joined.examples == 9
    for name in ("gain", "gain_se", "lead", "lead_se"):
        assert getattr(joined, name) == pytest.approx(getattr(whole, name), abs=1e-9)
    assert joined.personal.nll == pytest.approx(whole.personal.nll)


def test_a_paper_basis_still_enters_at_the_targets(bert: Toy) -> None:
    settings = dataclasses.replace(QUICK, reach=Reach.TARGETS, label_bias=False)
    made = plora.train_population(bert.base, toys.toy_population(8, 6), settings)
    assert "M" not in made.basis.tensors
    assert any(value.any() for name, value in made.basis.tensors.items() if name.startswith("P."))
    both = plora.train_population(bert.base, toys.toy_population(8, 6), dataclasses.replace(QUICK, reach=Reach.BOTH))
    assert both.basis.spec.mixing
    assert any(value.any() for name, value in both.basis.tensors.items() if name.startswith("P."))
