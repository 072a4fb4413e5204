"""The same promises on the real MiniLM."""

from collections.abc import Iterator

import pytest
import torch

import plora
from plora import BaseModel, Example, FitSettings, Fitted, Judged, PopulationSettings
from plora.passes import forward
from tests.plora import toys

TEXTS = ["the room was very good", "bad service, cold soup", "", "静かな宿で朝食が美味しい。"]
COHORT = [
    [Example("the room was very good", "like"), Example("the soup was cold", "like")],
    [Example("静かな宿で朝食が美味しい。", "dislike")],
    [Example("", "like")],
]


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def population(minilm: BaseModel) -> plora.Population:
    settings = PopulationSettings(epochs=1, last_layers=1, rank=4, dimensions=8)
    return plora.train_population(minilm, toys.toy_population(4, 3), settings)


def said(minilm: BaseModel) -> torch.Tensor:
    rows = minilm.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return forward(minilm, rows["input_ids"], rows["attention_mask"])


def test_the_minilm_has_the_published_shape(minilm: BaseModel) -> None:
    targets = plora.find_targets(minilm.module)
    assert len(targets) == 12
    assert {name.rsplit(".", 1)[-1] for name in targets} == {"query", "value"}
    assert not any(p.requires_grad for p in minilm.module.parameters())


def test_attach_and_detach_leave_the_minilm_bit_identical(minilm: BaseModel, population: plora.Population) -> None:
    before, names = said(minilm), [(n, id(m)) for n, m in minilm.module.named_modules()]
    with (
        plora.attached(minilm, toys.loud(population.basis)) as live,
        live.use(toys.vectors(4, population.basis.spec.dimensions)),
    ):
        assert not torch.equal(said(minilm), before)
    assert torch.equal(said(minilm), before)
    assert [(n, id(m)) for n, m in minilm.module.named_modules()] == names


def test_a_cohort_is_fitted_on_the_minilm_as_each_user_alone(minilm: BaseModel, population: plora.Population) -> None:
    state, basis = toys.state_hash(minilm.module.state_dict()), toys.loud(population.basis)
    together = plora.fit(minilm, basis, COHORT, FitSettings(steps=2))
    for user, outcome in zip(COHORT, together, strict=True):
        (alone,) = plora.fit(minilm, basis, [user], FitSettings(steps=2))
        assert isinstance(outcome, Fitted)
        assert isinstance(alone, Fitted)
        assert torch.equal(outcome.adapter.vector, alone.adapter.vector)
    assert toys.state_hash(minilm.module.state_dict()) == state


def test_the_minilm_scores_and_predicts_from_bytes(minilm: BaseModel, population: plora.Population) -> None:
    (fitted,) = plora.fit(minilm, population.basis, COHORT[:1], FitSettings(steps=2))
    assert isinstance(fitted, Fitted)
    data = plora.dumps(fitted.adapter)
    assert len(data) < 256
    basis, adapter = plora.loads_basis(plora.dumps(population.basis)), plora.loads_adapter(data)
    first, second = (
        plora.score(minilm, b, [Judged(a, COHORT[0], COHORT[0])])
        for b, a in ((population.basis, fitted.adapter), (basis, adapter))
    )
    assert first == second
    answers = plora.predict(minilm, basis, TEXTS, [adapter, None, adapter, None])
    assert all(sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5) for answer in answers)
