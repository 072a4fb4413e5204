"""The reference's objective on a tiny BERT, written out from the formulas in one straight line, and its gradients."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import plora
from plora import MutualInformation, PopulationSettings
from plora.examples import MicroBatch
from plora.losses import Objective
from plora.population import trained_leaves
from plora.windows import Survey
from tests.plora import toys
from tests.plora.conftest import Toy

USERS, ROWS, TOKENS, DROPPED, WEIGHT, PRIOR = 3, 6, 7, 0.4, 0.3, 1.0
OWNERS = (0, 0, 1, 1, 2, 2)


@dataclass
class StraightLine:
    """BERT and the PLoRA terms from bare tensors; `parts` are the leaves whose gradients are compared."""

    state: dict[str, Tensor]
    parts: dict[str, Tensor]
    scale: float
    drop: Callable[[Tensor], Tensor]
    features: list[Tensor] = field(default_factory=list)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        away = x - x.mean(-1, keepdim=True)
        shape = away / (away.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return shape * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def adapted(self, name: str, x: Tensor, p: Tensor | None) -> Tensor:
        """W x + b + s B (A drop1(x) + P drop(p)); the feature term compares it with s B A drop2(x)."""
        A, B, P = (self.parts[f"{letter}.{name}"] for letter in "ABP")
        inner = self.drop(x) @ A.T
        if p is None:
            return self.linear(name, x) + self.scale * inner @ B.T
        change = self.scale * (inner + (self.drop(p) @ P.T)[:, None, :]) @ B.T
        generic = self.scale * (self.drop(x) @ A.T) @ B.T
        self.features.append((change - generic) ** 2)
        return self.linear(name, x) + change

    def attention(self, name: str, x: Tensor, mask: Tensor, p: Tensor | None) -> Tensor:
        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (2, -1)).transpose(1, 2)

        q = heads(self.adapted(f"{name}.self.query", x, p))
        k = heads(self.linear(f"{name}.self.key", x))
        v = heads(self.adapted(f"{name}.self.value", x, p))
        weights = q @ k.transpose(-1, -2) / (toys.HIDDEN / 2) ** 0.5
        weights = weights.masked_fill(mask[:, None, None, :] == 0, float("-inf")).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        return self.norm(f"{name}.output.LayerNorm", self.linear(f"{name}.output.dense", mixed) + x)

    def pooled(self, ids: Tensor, mask: Tensor, p: Tensor | None) -> Tensor:
        words, places, kinds = (
            self.state[f"bert.embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
        )
        x = self.norm("bert.embeddings.LayerNorm", words[ids] + places[: ids.shape[1]] + kinds[0])
        for at in range(2):
            layer = f"bert.encoder.layer.{at}"
            x = self.attention(f"{layer}.attention", x, mask, p)
            wide = F.gelu(self.linear(f"{layer}.intermediate.dense", x))
            x = self.norm(f"{layer}.output.LayerNorm", self.linear(f"{layer}.output.dense", wide) + x)
        return torch.tanh(self.linear("bert.pooler.dense", x[:, 0]))

    def head(self, pooled: Tensor) -> Tensor:
        return pooled @ self.parts["head.weight"].T + self.parts["head.bias"]


@dataclass
class Case:
    training: Objective
    batch: MicroBatch
    toy: Toy

    def leaves(self) -> dict[str, Tensor]:
        """The library's own leaves by the Basis's names."""
        found = {f"{letter}.{n}": getattr(layer, letter) for n, layer in self.live.layers.items() for letter in "ABP"}
        head = self.live.module.get_submodule("classifier")
        return found | {"head.weight": head.weight, "head.bias": head.bias, "vectors": self.training.vectors}

    @property
    def live(self) -> plora.Attachment:
        return self.training.live

    def straight_line(self, drop: Callable[[Tensor], Tensor]) -> StraightLine:
        parts = {name: value.detach().clone().requires_grad_() for name, value in self.leaves().items()}
        state = {name.replace(".base.", "."): value for name, value in self.live.module.state_dict().items()}
        return StraightLine(state, parts, self.toy.basis.spec.scale, drop)


@pytest.fixture(params=[0.0, 0.1], ids=["calm", "dropout"])
def case(request: pytest.FixtureRequest, bert: Toy) -> "Case":
    settings = PopulationSettings(
        rank=4,
        alpha=8.0,
        dimensions=8,
        dropout=request.param,
        personalized_dropout=DROPPED,
        prior=PRIOR,
        mutual_information=MutualInformation.REFERENCE,
        mutual_information_weight=WEIGHT,
        seed=3,
    )
    ids = torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) * 5 % 17 + 2
    mask = torch.ones_like(ids)
    mask[2, 4:] = 0
    batch = MicroBatch(torch.arange(ROWS), ids, mask, torch.tensor([0, 1, 1, 0, 1, 1]))
    own = plora.wrap(toys.bert(), bert.base.tokenizer, kind=plora.Kind.CLASSIFICATION)
    live = plora.attach(own, bert.basis)
    training = Objective(own, live, Survey(toys.LABELS, torch.full((USERS,), 2)), settings)
    trained_leaves(live)
    for layer in live.layers.values():
        layer.dropout = request.param
        layer.train()
    own.module.double()  # so that what differs is the formula and not the rounding
    training.vectors.data = toys.vectors(USERS).double()
    return Case(training, batch, bert)


def reference(line: StraightLine, batch: MicroBatch, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(cross-entropy, feature MSE, KL): plora's published objective, term by term."""
    p = line.parts["vectors"][list(OWNERS)] * keep
    logits = line.head(line.pooled(batch.ids, batch.mask, p))
    loss = -logits.log_softmax(-1)[torch.arange(ROWS), batch.targets].mean()
    feature = torch.stack(line.features).mean()
    with torch.no_grad():
        body = line.pooled(batch.ids, batch.mask, None)  # the generic body: still in training, without gradient
    generic = line.head(body.detach())  # the head: with gradient
    target = (logits / 4).softmax(-1)  # the personalised side: not detached
    divergence = (target * (target.log() - (generic / 4).log_softmax(-1))).sum() / ROWS
    return loss, feature, divergence


def test_values_and_gradients_are_the_references(case: Case) -> None:
    rate = case.training.settings.dropout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        found, examples = case.training.loss(case.batch, torch.Generator().manual_seed(3))
        torch.manual_seed(11)
        line = case.straight_line(lambda x: F.dropout(x, rate) if rate else x)
        keep = torch.rand(ROWS, 1, generator=torch.Generator().manual_seed(3)) >= DROPPED
        loss, feature, divergence = reference(line, case.batch, keep)
    assert 0 < keep.sum() < ROWS
    penalty = 0.5 * PRIOR * (line.parts["vectors"][list(OWNERS)].square().sum(1) / 2).mean()
    total = loss + penalty + WEIGHT * (feature + divergence)
    torch.testing.assert_close(examples, loss.detach(), atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(found.detach(), total.detach(), atol=1e-9, rtol=1e-6)
    leaves = case.leaves()
    mine = torch.autograd.grad(found, list(leaves.values()))
    theirs = torch.autograd.grad(total, [line.parts[name] for name in leaves])
    for name, ours, expected in zip(leaves, mine, theirs, strict=True):
        assert expected.abs().max() > 0, name
        torch.testing.assert_close(ours, expected, atol=1e-9, rtol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


def test_the_generic_body_gets_no_gradient_and_the_head_does(case: Case) -> None:
    generic = case.training.generic_logits(case.batch)
    leaves = case.leaves()
    gradients = torch.autograd.grad(generic.square().sum(), list(leaves.values()), allow_unused=True)
    reached = {name for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
    assert reached == {"head.weight", "head.bias"}


def test_the_head_gets_its_gradient_whatever_its_form(any_classifier: Toy) -> None:
    with plora.attached(any_classifier.base, any_classifier.basis) as live:
        found = Survey(toys.LABELS, torch.tensor([2, 2]))
        training = Objective(any_classifier.base, live, found, PopulationSettings(dimensions=8, dropout=0.0))
        leaves = trained_leaves(live)
        ids, mask = any_classifier.tokens()
        batch = MicroBatch(torch.arange(4), ids, mask, torch.zeros(4, dtype=torch.long))
        generic = training.generic_logits(batch)
        gradients = torch.autograd.grad(generic.square().sum(), leaves, allow_unused=True)
        with torch.no_grad():
            torch.testing.assert_close(generic, any_classifier.logits(), atol=1e-6, rtol=1e-6)
    body = 3 * len(any_classifier.basis.spec.targets)
    assert all(gradient is None for gradient in gradients[:body])
    assert all(gradient is not None for gradient in gradients[body:])
