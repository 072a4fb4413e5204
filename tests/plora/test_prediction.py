"""Prediction: many users' texts in one batch, each answered as if alone."""

import pytest
import torch

import plora
from plora import Adapter, WrongRows
from plora.examples import encode_text
from plora.passes import forward
from tests.plora import toys
from tests.plora.conftest import Toy

TEXTS = ["the soup was good", "the very bad bed", "view", "", "静かな宿", "the room and the view and the bed was bad"]


def users(toy: Toy, loudness: float = 1.0) -> list[Adapter | None]:
    found: list[Adapter | None] = [Adapter.of(toy.basis, vector * loudness) for vector in toys.vectors(len(TEXTS))]
    found[1] = None
    return found


def test_labels_are_those_of_a_direct_forward(any_classifier: Toy) -> None:
    base, basis = any_classifier.base, any_classifier.basis
    answers = plora.predict(base, basis, TEXTS, users(any_classifier))
    for text, adapter, answer in zip(TEXTS, users(any_classifier), answers, strict=True):
        ids = torch.tensor([encode_text(base, text)])
        with plora.attached(base, basis) as live, live.use([adapter]), torch.no_grad():
            chances = forward(base, ids, torch.ones_like(ids)).softmax(-1)[0]
        assert list(answer.probabilities) == list(basis.labels)
        torch.testing.assert_close(torch.tensor(list(answer.probabilities.values())), chances, atol=1e-6, rtol=1e-5)
        assert answer.confidence == max(answer.probabilities.values())
        assert answer.answer == basis.labels[int(chances.argmax())]


def test_an_unseen_user_is_answered_by_the_generic_model(any_classifier: Toy) -> None:
    base, basis = any_classifier.base, any_classifier.basis
    zero = Adapter.of(basis, torch.zeros(8))
    assert plora.predict(base, basis, TEXTS, [None] * 6) == plora.predict(base, basis, TEXTS, [zero] * 6)


def test_more_rows_than_one_batch_holds_are_answered_in_order(bert: Toy) -> None:
    texts = TEXTS * 25
    answers = plora.predict(bert.base, bert.basis, texts, users(bert) * 25)
    assert len(answers) == 150
    once = plora.predict(bert.base, bert.basis, TEXTS, users(bert))
    for at, answer in enumerate(answers):
        assert answer.probabilities == pytest.approx(once[at % 6].probabilities, abs=1e-5)


def continued(toy: Toy, text: str, adapter: Adapter | None, count: int) -> str:
    """Greedy continuation token by token, alone and without padding or cache."""
    ids = torch.tensor([encode_text(toy.base, text)])
    end = toy.base.tokenizer.eos_token_id
    with plora.attached(toy.base, toy.basis) as live, live.use([adapter]), torch.no_grad():
        start = ids.shape[1]
        for _ in range(count):
            logits = forward(toy.base, ids, torch.ones_like(ids))
            ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            if int(ids[0, -1]) == end:
                break
    return toy.base.tokenizer.decode(ids[0, start:], skip_special_tokens=True)


def test_a_causal_model_continues_each_row_as_its_own_user(any_lm: Toy) -> None:
    texts = [text for text in TEXTS if text]  # an empty prompt is padding: see the next test
    adapters = [a for a, text in zip(users(any_lm, 4.0), TEXTS, strict=True) if text]
    answers = plora.predict(any_lm.base, any_lm.basis, texts, adapters, max_new_tokens=5)
    for text, adapter, answer in zip(texts, adapters, answers, strict=True):
        assert answer.answer == continued(any_lm, text, adapter, 5)
        (alone,) = plora.predict(any_lm.base, any_lm.basis, [text], [adapter], max_new_tokens=5)
        assert alone.answer == answer.answer
        assert answer.confidence == pytest.approx(alone.confidence, abs=1e-5)
        assert 0 < answer.confidence <= 1
        assert not answer.probabilities


def test_an_empty_prompt_is_continued_too(any_lm: Toy) -> None:
    (answer,) = plora.predict(any_lm.base, any_lm.basis, [""], [None], max_new_tokens=3)
    assert isinstance(answer.answer, str)
    assert 0 < answer.confidence <= 1


def test_two_users_of_a_causal_model_may_be_answered_differently(any_lm: Toy) -> None:
    adapters = [Adapter.of(any_lm.basis, vector * 4) for vector in toys.vectors(8, seed=3)]
    answers = plora.predict(any_lm.base, any_lm.basis, ["the soup was"] * 8, adapters, max_new_tokens=4)
    assert len({answer.answer for answer in answers}) > 1


def test_every_text_needs_its_user(bert: Toy) -> None:
    with pytest.raises(WrongRows):
        plora.predict(bert.base, bert.basis, TEXTS, [None])
    assert plora.predict(bert.base, bert.basis, [], []) == []


def test_prediction_leaves_the_model_as_it_was(any_toy: Toy) -> None:
    names, before = [(n, id(m)) for n, m in any_toy.base.module.named_modules()], any_toy.logits()
    plora.predict(any_toy.base, any_toy.basis, TEXTS[:2], [None, None], max_new_tokens=2)
    assert [(n, id(m)) for n, m in any_toy.base.module.named_modules()] == names
    assert torch.equal(any_toy.logits(), before)


def test_answers_show_no_content_in_a_repr(bert: Toy) -> None:
    (answer,) = plora.predict(bert.base, bert.basis, ["the soup"], [None])
    assert "like" not in repr(answer)
