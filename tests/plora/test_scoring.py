"""Scores: what an adapter is worth beside its three controls."""

import math

import pytest
import torch

import plora
from plora import Adapter, Example, Fitted, Judged, Scores, UnknownLabel
from plora.controls import SMOOTHING, STRANGERS, prior_shift, strangers
from tests.plora import toys
from tests.plora.conftest import Toy

HELD_OUT = toys.reviews(7, 40)
LEARNED = toys.reviews(5, 41, ("the",))


def judged(toy: Toy, vector: torch.Tensor, learned: list[Example] | None = None) -> Scores:
    (scores,) = plora.score(
        toy.base, toy.basis, [Judged(Adapter.of(toy.basis, vector), LEARNED if learned is None else learned, HELD_OUT)]
    )
    return scores


def test_the_zero_vector_scores_as_the_generic_model(any_toy: Toy) -> None:
    scores = judged(any_toy, torch.zeros(8))
    assert scores.personal == scores.generic
    assert scores.gain == 0
    assert scores.examples == 7


def test_figures_are_those_of_the_models_own_answers(bert: Toy) -> None:
    adapter = Adapter.of(bert.basis, toys.vectors(1)[0])
    scores = judged(bert, adapter.vector)
    texts = [example.text for example in HELD_OUT]
    for figure, user in ((scores.personal, adapter), (scores.generic, None)):
        answers = plora.predict(bert.base, bert.basis, texts, [user] * 7)
        losses = [-math.log(a.probabilities[e.target]) for a, e in zip(answers, HELD_OUT, strict=True)]
        hits = [a.answer == e.target for a, e in zip(answers, HELD_OUT, strict=True)]
        assert figure.nll == pytest.approx(sum(losses) / 7, abs=1e-5)
        assert figure.accuracy == pytest.approx(sum(hits) / 7)


def test_gain_is_paired_over_the_held_out_examples(bert: Toy) -> None:
    adapter = Adapter.of(bert.basis, toys.vectors(1)[0])
    scores = judged(bert, adapter.vector)
    ones = plora.score(bert.base, bert.basis, [Judged(adapter, [], [example]) for example in HELD_OUT])
    gains = torch.tensor([one.generic.nll - one.personal.nll for one in ones])
    assert scores.gain == pytest.approx(float(gains.mean()), abs=1e-6)
    assert scores.gain == pytest.approx(scores.generic.nll - scores.personal.nll, abs=1e-6)
    assert scores.gain_se == pytest.approx(float(gains.std() / 7**0.5), abs=1e-6)


def test_wrong_user_figures_are_the_mean_over_the_strangers(bert: Toy) -> None:
    scores = judged(bert, torch.ones(8))
    each = [judged(bert, vector).personal for vector in strangers(bert.basis)]
    assert scores.wrong_user.nll == pytest.approx(sum(s.nll for s in each) / STRANGERS, abs=1e-6)
    assert scores.wrong_user.accuracy == pytest.approx(sum(s.accuracy for s in each) / STRANGERS, abs=1e-6)


def test_strangers_are_the_basis_own_and_come_from_its_population(bert: Toy) -> None:
    before = torch.random.get_rng_state()
    drawn = strangers(bert.basis)
    assert drawn.shape == (STRANGERS, 8)
    assert torch.equal(drawn, strangers(plora.loads_basis(plora.dumps(bert.basis))))
    assert not torch.equal(drawn, strangers(bert.fresh))
    assert torch.equal(torch.random.get_rng_state(), before)
    moved = plora.Basis(bert.basis.spec, {**bert.basis.tensors, "prior.mean": torch.full((8,), 50.0)})
    assert bool((strangers(moved) > 40).all())


def test_the_label_prior_is_the_formula_by_hand(bert: Toy) -> None:
    scores = judged(bert, torch.ones(8))

    def generic(examples: list[Example]) -> list[list[float]]:
        answers = plora.predict(bert.base, bert.basis, [e.text for e in examples], [None] * len(examples))
        return [[answer.probabilities[label] for label in bert.basis.labels] for answer in answers]

    shares = [sum(column) / len(LEARNED) for column in zip(*generic(LEARNED), strict=True)]
    counts = [sum(e.target == label for e in LEARNED) for label in bert.basis.labels]
    wanted = [(n + SMOOTHING * g) / (len(LEARNED) + SMOOTHING) for n, g in zip(counts, shares, strict=True)]
    losses, hits = [], []
    for chances, example in zip(generic(HELD_OUT), HELD_OUT, strict=True):
        moved = [p * w / g for p, w, g in zip(chances, wanted, shares, strict=True)]
        target = bert.basis.labels.index(example.target)
        losses.append(-math.log(moved[target] / sum(moved)))
        hits.append(moved[target] == max(moved))
    assert scores.label_prior.nll == pytest.approx(sum(losses) / 7, abs=1e-5)
    assert scores.label_prior.accuracy == pytest.approx(sum(hits) / 7)


def test_without_learned_examples_the_label_prior_is_the_generic_model(bert: Toy) -> None:
    scores = judged(bert, torch.ones(8), learned=[])
    assert scores.label_prior.nll == pytest.approx(scores.generic.nll, abs=1e-6)
    assert not prior_shift(torch.zeros(0, 3), []).any()


def test_the_label_prior_never_sees_the_held_out_labels(bert: Toy) -> None:
    adapter = Adapter.of(bert.basis, torch.ones(8))
    alone = [judged(bert, torch.ones(8), LEARNED[:n]).label_prior for n in (1, 3)]
    both = plora.score(bert.base, bert.basis, [Judged(adapter, LEARNED[:n], HELD_OUT) for n in (1, 3)])
    assert [s.label_prior for s in both] == alone
    assert alone[0] != alone[1]


def test_a_causal_model_is_scored_too(any_lm: Toy) -> None:
    (fitted,) = plora.fit(any_lm.base, any_lm.basis, [LEARNED], plora.FitSettings(prior=0.01))
    assert isinstance(fitted, Fitted)
    (scores,) = plora.score(any_lm.base, any_lm.basis, [Judged(fitted.adapter, LEARNED, LEARNED)])
    assert scores.label_prior == scores.generic
    assert scores.gain > 0
    assert math.isfinite(scores.wrong_user.nll)


def test_scores_come_back_from_json(bert: Toy) -> None:
    scores = judged(bert, toys.vectors(1)[0])
    assert Scores.from_json(scores.to_json()) == scores


def test_an_unknown_label_is_refused(bert: Toy) -> None:
    adapter = Adapter.of(bert.basis, torch.ones(8))
    strange = [Example("the soup was good", "no such label")]
    for member in (Judged(adapter, strange, HELD_OUT), Judged(adapter, [], strange)):
        with pytest.raises(UnknownLabel):
            plora.score(bert.base, bert.basis, [member])


def test_nothing_held_out_gives_no_figures_and_spoils_nobody(any_toy: Toy) -> None:
    adapter = Adapter.of(any_toy.basis, torch.ones(8))
    empty, full = Judged(adapter, LEARNED, []), Judged(adapter, LEARNED, HELD_OUT)
    for cohort in ([empty], [empty, full], [Judged(adapter, [], [])]):
        first, *others = plora.score(any_toy.base, any_toy.basis, cohort)
        assert first.examples == 0
        assert math.isnan(first.personal.nll)
        assert math.isnan(first.gain)
        assert others in ([], [judged(any_toy, torch.ones(8))])
    assert plora.score(any_toy.base, any_toy.basis, []) == []


def test_one_held_out_example_has_no_error_of_the_mean(bert: Toy) -> None:
    adapter = Adapter.of(bert.basis, torch.ones(8))
    (scores,) = plora.score(bert.base, bert.basis, [Judged(adapter, [], HELD_OUT[:1])])
    assert math.isnan(scores.gain_se)
    assert math.isfinite(scores.gain)


def test_strangers_stand_on_both_sides_of_the_populations_mean(bert: Toy) -> None:
    drawn = strangers(bert.basis)
    assert drawn.shape == (4, 8)
    torch.testing.assert_close(drawn.mean(0), bert.basis.prior_mean)
    assert torch.equal(drawn, strangers(bert.basis))
    assert not torch.equal(drawn - bert.basis.prior_mean, strangers(bert.fresh) - bert.fresh.prior_mean)
