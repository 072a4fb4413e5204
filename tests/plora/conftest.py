"""Frozen tiny models, one of each kind, built once; and the real MiniLM."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import plora
from plora import BaseModel, Basis, Kind
from plora.passes import forward
from tests.plora import toys


@dataclass(frozen=True)
class Toy:
    """A tiny base model, a Basis that changes nothing yet, and one that changes much."""

    base: BaseModel
    fresh: Basis
    basis: Basis

    @property
    def lm(self) -> bool:
        return self.base.kind is Kind.CAUSAL_LM

    def tokens(self) -> tuple[Tensor, Tensor]:
        """(4, 7) ids and their mask, one row of them shorter than the others."""
        ids = torch.arange(28).reshape(4, 7) * 5 % 17 + 2
        mask = torch.ones_like(ids)
        ids[1, 4:], mask[1, 4:] = 0, 0
        return ids, mask

    @torch.no_grad()
    def logits(self) -> Tensor:
        return forward(self.base, *self.tokens())

    @torch.no_grad()
    def hidden(self) -> Tensor:
        """What enters the task head."""
        ids, mask = self.tokens()
        body = self.base.module(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return body.hidden_states[-1]


def toy(module: torch.nn.Module, kind: Kind, *, framed: bool, layers: int | None = None) -> Toy:
    base = plora.wrap(module, toys.tokenizer(framed=framed), kind=kind, max_tokens=24)
    labels = toys.LABELS if kind is Kind.CLASSIFICATION else ()
    fresh = toys.basis_on(module, base.fingerprint, labels=labels, layers=layers)
    return Toy(base, fresh, toys.loud(fresh))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models are slower on two threads; where threads matter a test asks for more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bert() -> Toy:
    return toy(toys.bert(), Kind.CLASSIFICATION, framed=True)


@pytest.fixture(scope="session")
def roberta() -> Toy:
    return toy(toys.roberta(), Kind.CLASSIFICATION, framed=True)


@pytest.fixture(scope="session")
def gpt2() -> Toy:
    return toy(toys.gpt2(), Kind.CAUSAL_LM, framed=False)


@pytest.fixture(scope="session")
def llama() -> Toy:
    return toy(toys.llama(), Kind.CAUSAL_LM, framed=False)


@pytest.fixture(scope="session")
def llama_classifier() -> Toy:
    return toy(toys.llama_classifier(), Kind.CLASSIFICATION, framed=False)


@pytest.fixture(scope="session", params=["bert", "roberta", "gpt2", "llama", "llama_classifier"])
def any_toy(request: pytest.FixtureRequest) -> Toy:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def any_lm(request: pytest.FixtureRequest) -> Toy:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["bert", "roberta", "llama_classifier"])
def any_classifier(request: pytest.FixtureRequest) -> Toy:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def minilm() -> BaseModel:
    return plora.load(device="cpu")


@pytest.fixture(scope="session")
def trained(bert: Toy) -> plora.Population:
    """A Basis learned from a few toy users on the tiny BERT."""
    settings = plora.PopulationSettings(epochs=16, rank=4, dimensions=8, shared_rate=1e-2, user_rate=2e-2)
    return plora.train_population(bert.base, toys.toy_population(16, 8), settings)


@pytest.fixture(scope="module")
def poisoned() -> tuple[BaseModel, Basis]:
    """A BERT on which any text with the word "poison" gives NaN."""
    module = toys.bert(layers=3)
    words = toys.tokenizer(framed=True)
    with torch.no_grad():
        module.get_input_embeddings().weight[words.convert_tokens_to_ids("poison")] = torch.nan
    base = plora.wrap(module, words, kind=Kind.CLASSIFICATION, max_tokens=24)
    return base, toys.loud(toys.basis_on(module, base.fingerprint, layers=2))
