"""Population training's short last block: it is really taken where it can be, and gives the model's own answers."""

import torch

import plora
from plora import PopulationSettings
from plora.losses import Objective
from plora.pooled import Pooled
from plora.windows import Windows, survey
from tests.plora import toys
from tests.plora.conftest import Toy


def test_bert_likes_have_a_short_last_block_and_others_keep_theirs(bert: Toy, roberta: Toy, llama: Toy) -> None:
    widths: list[int] = []
    for toy in (bert, roberta, llama):
        rows = toy.base.tokenizer(["the soup was good"], return_tensors="pt")
        body = toy.base.module.base_model
        with Pooled(toy.base).standing(), torch.no_grad():
            found = body(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).last_hidden_state
        widths.append(found.shape[1])
    assert widths[:2] == [1, 1]
    assert widths[2] > 1


def test_the_minilm_has_one(minilm: plora.BaseModel) -> None:
    rows = minilm.tokenizer(["a text of some words"], return_tensors="pt")
    with Pooled(minilm).standing(), torch.no_grad():
        found = minilm.module.base_model(**rows).last_hidden_state
    assert found.shape[1] == 1


def test_answers_and_gradients_are_those_of_the_whole_block(any_classifier: Toy) -> None:
    population = toys.toy_population(4, 6)
    found = survey(population, any_classifier.base.kind, plora.Link.CATEGORICAL)
    with plora.attached(any_classifier.base, any_classifier.basis) as live:
        objective = Objective(any_classifier.base, live, found, PopulationSettings(dimensions=8))
        windows = Windows(any_classifier.base, live.basis, population, found, 99)
        (batch, *_) = list(objective.prefix.walk(_batches(any_classifier, windows), next(iter(windows)).row))
        vectors = (toys.vectors(len(batch.index)) * 0.3).requires_grad_()
        seen = []
        for pooled in (objective.pooled, None):
            objective.pooled = pooled
            logits = objective.logits(batch, vectors)[: len(vectors)]
            (slope,) = torch.autograd.grad(logits[:, 1].sum(), vectors)
            seen.append((logits.detach(), slope))
    torch.testing.assert_close(seen[0][0], seen[1][0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen[0][1], seen[1][1], atol=1e-4, rtol=1e-3)


def _batches(toy: Toy, windows: Windows) -> list[plora.examples.MicroBatch]:
    (window,) = windows
    return plora.examples.micro_batches(toy.base, toy.base.kind, window.rows)
