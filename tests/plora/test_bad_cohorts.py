"""One cohort of everything that can be wrong: each user has an outcome of its own, and the others do not notice."""

import pytest
import torch

import plora
from plora import BaseModel, Basis, Example, FitFailed, FitFailure, FitSettings, Fitted, Kind, Optimizer
from tests.plora import toys
from tests.plora.conftest import Toy

GOOD = toys.reviews(6, 1)
WAYS = {
    "newton": FitSettings(),
    "newton without a prior": FitSettings(prior=0.0),
    "adam": FitSettings(optimizer=Optimizer.ADAM, steps=3),
}


@pytest.fixture(scope="module")
def poisoned() -> tuple[BaseModel, Basis]:
    """A BERT on which any text with the word "poison" gives NaN."""
    module = toys.bert()
    words = toys.tokenizer(framed=True)
    with torch.no_grad():
        module.get_input_embeddings().weight[words.convert_tokens_to_ids("poison")] = torch.nan
    base = plora.wrap(module, words, kind=Kind.CLASSIFICATION, max_tokens=24)
    return base, toys.loud(toys.basis_on(module, base.fingerprint))


COHORT: dict[str, tuple[list[Example], FitFailure | None]] = {
    "one example": (GOOD[:1], None),
    "the same example ten times": (GOOD[:1] * 10, None),
    "the same text with both labels": ([Example("the soup", label) for label in toys.LABELS], None),
    "one label only": ([Example(each.text, "like") for each in GOOD], None),
    "a text beyond the model's length": ([Example("the soup was very good and " * 200, "like"), *GOOD], None),
    "an empty text": ([Example("", "like")], None),
    "nothing": ([], FitFailure.NO_EXAMPLES),
    "a label nobody knows": ([*GOOD, Example("the bed", "hmm")], FitFailure.UNKNOWN_LABEL),
    "activations that are not numbers": ([*GOOD, Example("the poison", "like")], FitFailure.NOT_FINITE),
    "a thousand examples": (toys.reviews(1000, 3), None),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_has_its_own_outcome_and_the_same_bits_as_alone(poisoned: tuple[BaseModel, Basis], way: str) -> None:
    base, basis = poisoned
    engine = plora.Engine(base, basis)
    together = plora.fit(base, basis, [examples for examples, _ in COHORT.values()], WAYS[way], engine=engine)
    assert len(together) == len(COHORT)
    for outcome, (name, (examples, failure)) in zip(together, COHORT.items(), strict=True):
        if failure is not None:
            assert outcome == FitFailed(failure), name
            continue
        assert isinstance(outcome, Fitted), name
        assert bool(torch.isfinite(outcome.adapter.vector).all()), name
        (alone,) = plora.fit(base, basis, [examples], WAYS[way], engine=engine)
        assert isinstance(alone, Fitted), name
        assert torch.equal(alone.adapter.vector, outcome.adapter.vector), name


def test_ten_thousand_examples_of_one_user_are_one_fit(bert: Toy) -> None:
    many = toys.reviews(10_000, 2, ("good",))
    (outcome,) = plora.fit(bert.base, bert.basis, [many])
    assert isinstance(outcome, Fitted)
    assert outcome.statistics is None or outcome.statistics.examples == 10_000
    assert outcome.loss <= outcome.loss_before
    assert outcome.left_out is not None
    assert outcome.left_out.examples == 10_000


def test_a_prior_of_another_basis_is_refused_before_any_pass(bert: Toy) -> None:
    (outcome,) = plora.fit(bert.base, bert.basis, [GOOD])
    assert isinstance(outcome, Fitted)
    assert outcome.statistics is not None
    (refused,) = plora.refit(bert.base, bert.fresh, [plora.Refit(outcome.statistics, GOOD[:1])])
    assert refused == FitFailed(FitFailure.WRONG_BASIS)
