"""What moved an answer: the reasons named are those that a fit without them would miss."""

import math
from dataclasses import replace

import pytest
import torch

import plora
from plora import Engine, Example, FitSettings, influence
from tests.plora import toys
from tests.plora.conftest import Toy

TEXTS = (
    "the soup was good",
    "the very bad bed",
    "the view and the room",
    "the staff was bad",
    "a good price",
    "bed soup",
)


def fitted(toy: Toy, taught):
    [found] = plora.fit(toy.base, toy.basis, [taught], FitSettings(optimizer=plora.Optimizer.NEWTON))
    return found.adapter


def log_odds(toy: Toy, text: str, adapter, label: str) -> float:
    [answer] = plora.predict(toy.base, toy.basis, [text], [adapter])
    chance = answer.probabilities[label]
    return math.log(chance) - math.log1p(-chance)


def test_each_examples_share_is_what_a_fit_without_it_lacks(any_classifier: Toy) -> None:
    toy = any_classifier
    taught = [Example(text, toys.LABELS[at % 2]) for at, text in enumerate(TEXTS)]
    adapter = fitted(toy, taught)
    engine = Engine(toy.base, toy.basis)
    wanted, found = [], []
    for text in ("the soup and the bed", "the good view"):
        [answer] = plora.predict(toy.base, toy.basis, [text], [adapter])
        why = influence(engine, text, adapter, taught)
        told = {each.example: each.nats for each in why.moved}
        for at in range(len(taught)):
            without = fitted(toy, [*taught[:at], *taught[at + 1 :]])
            wanted.append(log_odds(toy, text, adapter, answer.answer) - log_odds(toy, text, without, answer.answer))
            found.append(told[at])
    both = torch.tensor([wanted, found], dtype=torch.float64)
    assert float(torch.corrcoef(both)[0, 1]) > 0.9
    assert int(both[0].abs().argmax()) == int(both[1].abs().argmax())


def test_of_a_label_bias_alone_an_example_gave_no_more(bert: Toy) -> None:
    settings = plora.PopulationSettings(epochs=1, rank=4, dimensions=6, shared_rate=1e-2, user_rate=2e-2)
    trained = plora.train_population(bert.base, toys.toy_population(6, 6), settings).basis
    toy, engine, text = replace(bert, basis=trained), Engine(bert.base, trained), "the soup and the bed"
    assert trained.spec.bias
    taught = [Example(each, toys.LABELS[at % 3 == 0]) for at, each in enumerate(TEXTS)]

    def alone(examples):
        [found] = plora.fit(toy.base, toy.basis, [examples])
        assert isinstance(found, plora.Fitted)
        assert found.bias is not None
        return found.bias.adapter

    adapter = alone(taught)
    [answer] = plora.predict(toy.base, toy.basis, [text], [adapter])
    for each in influence(engine, text, adapter, taught).moved:
        without = alone([*taught[: each.example], *taught[each.example + 1 :]])
        truly = log_odds(toy, text, adapter, answer.answer) - log_odds(toy, text, without, answer.answer)
        assert each.nats == pytest.approx(truly, rel=0.2, abs=0.02)


def test_the_distance_from_the_generic_answer_is_a_divergence(bert: Toy) -> None:
    engine = Engine(bert.base, bert.basis)
    adapter = plora.Adapter.of(bert.basis, toys.vectors(1)[0])
    why = influence(engine, TEXTS[0], adapter, [])
    own, generic = (
        torch.tensor(list(plora.predict(bert.base, bert.basis, [TEXTS[0]], [user])[0].probabilities.values()))
        for user in (adapter, None)
    )
    assert why.from_generic == pytest.approx(float((own * (own / generic).log()).sum()), abs=1e-4)
    assert why.generic_label == toys.LABELS[int(generic.argmax())]
    assert influence(engine, TEXTS[0], None, []).from_generic == pytest.approx(0, abs=1e-9)


def test_what_the_basis_does_not_know_moved_nothing_and_only_the_newest_are_looked_at(bert: Toy) -> None:
    engine = Engine(bert.base, bert.basis)
    taught = [Example(TEXTS[at % 6], toys.LABELS[at % 2]) for at in range(70)]
    taught[69] = replace(taught[69], target="unheard of")
    why = influence(engine, TEXTS[0], plora.Adapter.of(bert.basis, toys.vectors(1)[0]), taught)
    assert {each.example for each in why.moved} == set(range(6, 69))
    assert "soup" not in repr(why)


def test_a_basis_that_writes_text_has_no_such_reasons(gpt2: Toy) -> None:
    with pytest.raises(plora.WrongKind):
        influence(Engine(gpt2.base, gpt2.basis), TEXTS[0], None, [])
