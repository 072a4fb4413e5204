"""Low-rank adapters in use: rows of every kind in one batch, each as if alone; strangers are refused."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import plora
from plora import (
    Adapter,
    Basis,
    Example,
    Kind,
    LowRankAdapter,
    MalformedAdapter,
    WrongBaseModel,
    WrongBasis,
    WrongShape,
)
from plora.attachment import Attachment
from plora.basis import BasisSpec, find_targets, fresh_basis
from plora.examples import encode_all
from plora.lowrank import stacked
from plora.passes import forward, passes
from plora.users import User
from tests.plora import toys
from tests.plora.conftest import Toy


def drawn(basis: Basis, *, rank: int = 2, alpha: float = 4.0, seed: int = 0) -> LowRankAdapter:
    """A low-rank adapter that changes much."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {"vector": torch.randn(basis.spec.dimensions, generator=draw)}
    for name in basis.spec.targets:
        d_in, d_out = basis.tensors[f"A.{name}"].shape[1], basis.tensors[f"B.{name}"].shape[0]
        tensors[f"A.{name}"] = torch.randn(rank, d_in, generator=draw) * toys.LOUD
        tensors[f"B.{name}"] = torch.randn(d_out, rank, generator=draw) * toys.LOUD
    return LowRankAdapter(basis.base, basis.fingerprint, rank, alpha, tensors)


def four(basis: Basis) -> list[User]:
    """A row of each kind, and two ranks."""
    vector = Adapter.of(basis, toys.vectors(1)[0])
    return [drawn(basis), vector, None, drawn(basis, rank=3, alpha=1.5, seed=1)]


@torch.no_grad()
def logits(toy: Toy, users: Sequence[User], rows: Sequence[int] = (0, 1, 2, 3)) -> Tensor:
    ids, mask = (part[list(rows)] for part in toy.tokens())
    with plora.attached(toy.base, toy.basis) as live, live.use(users):
        return forward(toy.base, ids, mask)


def test_rows_of_every_kind_in_one_batch_are_as_each_alone(any_toy: Toy) -> None:
    users = four(any_toy.basis)
    together = logits(any_toy, users)
    mask = any_toy.tokens()[1]
    for row, user in enumerate(users):
        real = slice(None) if together.dim() == 2 else mask[row].bool()
        alone = logits(any_toy, [user], [row])[0]
        torch.testing.assert_close(together[row][real], alone[real], atol=1e-5, rtol=1e-5)
    generic = logits(any_toy, [None] * 4)
    assert torch.equal(together[2], generic[2])
    assert torch.equal(together[1], logits(any_toy, [None, users[1], None, None])[1])
    assert (together[0] - generic[0]).abs().max() > 1e-2


def test_a_low_rank_row_is_the_model_with_its_change_in_the_weights(bert: Toy) -> None:
    user = drawn(bert.basis)
    found = logits(bert, [user] * 4)
    ids, mask = bert.tokens()
    module = copy.deepcopy(bert.base.module)
    live = Attachment(module, bert.basis)
    for name, layer in live.layers.items():
        change = user.alpha / user.rank * (user.tensors[f"B.{name}"] @ user.tensors[f"A.{name}"])
        layer.base.weight.data += change
    with live.use(user.vector.expand(4, -1)), torch.no_grad():
        wanted = module(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_after_the_with_nothing_of_the_user_is_left(any_toy: Toy) -> None:
    before = logits(any_toy, [None] * 4)
    with plora.attached(any_toy.base, any_toy.basis) as live:
        with live.use(four(any_toy.basis)):
            pass
        assert live.rows.vectors is None
        assert all(live.rows.change(name) is None for name in any_toy.basis.spec.targets)
    assert torch.equal(logits(any_toy, [None] * 4), before)


def test_an_engine_gives_the_same_as_the_attached_model(any_toy: Toy) -> None:
    examples = toys.reviews(4, 0)
    users = four(any_toy.basis)
    rows = encode_all(any_toy.base, any_toy.basis, examples)
    found = {}
    with passes(plora.Engine(any_toy.base, any_toy.basis), rows) as run, torch.no_grad():
        for batch in run.batches():
            own = [users[at] for at in batch.index.tolist()] + [None] * (batch.ids.shape[0] - len(batch.index))
            vectors = torch.stack([torch.zeros(8) if user is None else user.vector for user in own])
            changes = stacked(own, any_toy.basis, torch.device("cpu"))
            with plora.attached(any_toy.base, any_toy.basis) as live, live.use(own):
                wanted = forward(any_toy.base, batch.ids, batch.mask).log_softmax(-1)
            mine = run.logits(batch, vectors, changes).float().log_softmax(-1)
            real = batch.mask.bool() if mine.dim() == 3 else slice(None)
            torch.testing.assert_close(mine[real], wanted[real], atol=1e-5, rtol=1e-5)
            found |= dict.fromkeys(batch.index.tolist(), True)
    assert len(found) == 4


def test_an_engine_adapts_targets_other_than_the_projections_too(bert: Toy) -> None:
    module = bert.base.module
    targets = find_targets(module, ("dense", "key"))
    basis = toys.loud(
        fresh_basis(module, BasisSpec(bert.base.fingerprint, Kind.CLASSIFICATION, toys.LABELS, targets, 4, 8.0, 8), 0)
    )
    examples = toys.reviews(4, 0)
    users = four(basis)
    answers = plora.predict(bert.base, basis, [example.text for example in examples], users)
    wanted = torch.tensor(
        [answer.probabilities[example.target] for answer, example in zip(answers, examples, strict=True)]
    )
    rows = encode_all(bert.base, basis, examples)
    found = torch.zeros(4)
    with passes(plora.Engine(bert.base, basis), rows) as run, torch.no_grad():
        for batch in run.batches():
            own = [users[at] for at in batch.index.tolist()] + [None] * (batch.ids.shape[0] - len(batch.index))
            vectors = torch.stack([torch.zeros(8) if user is None else user.vector for user in own])
            chances = run.logits(batch, vectors, stacked(own, basis, torch.device("cpu"))).softmax(-1)
            real = len(batch.index)
            found[batch.index] = chances[:real].gather(1, batch.targets[:real, None])[:, 0].float()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_predict_takes_all_kinds_of_users(any_toy: Toy) -> None:
    users, texts = four(any_toy.basis), [example.text for example in toys.reviews(4, 3)]
    together = plora.predict(any_toy.base, any_toy.basis, texts, users, max_new_tokens=3)
    for text, user, answer in zip(texts, users, together, strict=True):
        (alone,) = plora.predict(any_toy.base, any_toy.basis, [text], [user], max_new_tokens=3)
        assert answer.answer == alone.answer
        assert answer.confidence == pytest.approx(alone.confidence, abs=1e-5)


@pytest.mark.parametrize("other", ["base", "basis", "shape", "target"])
def test_a_stranger_is_refused_before_any_forward(bert: Toy, other: str) -> None:
    user = drawn(bert.basis)
    tensors = dict(user.tensors)
    name = user.targets[0]
    base, basis, error = user.base, user.basis, WrongShape
    if other == "base":
        base, error = "0" * 64, WrongBaseModel
    elif other == "basis":
        basis, error = "0" * 64, WrongBasis
    elif other == "shape":
        tensors[f"A.{name}"] = torch.zeros(2, 5)
    else:
        tensors["A.nowhere"], tensors["B.nowhere"] = tensors.pop(f"A.{name}"), tensors.pop(f"B.{name}")
    stranger = LowRankAdapter(base, basis, user.rank, user.alpha, tensors)
    with plora.attached(bert.base, bert.basis) as live, pytest.raises(error):
        live.use([None, user, stranger])
    with pytest.raises(error):
        plora.predict(bert.base, bert.basis, ["good"] * 65, [None] * 64 + [stranger])


def test_a_batch_of_another_size_is_refused(bert: Toy) -> None:
    with pytest.raises(plora.WrongRows):
        logits(bert, four(bert.basis), [0, 1])


def test_no_number_of_a_user_is_in_a_repr(bert: Toy) -> None:
    user = drawn(bert.basis)
    assert "tensor" not in repr(user)
    (outcome,) = plora.fit_low_rank(bert.base, bert.basis, [[Example("the soup was good", "like")]])
    assert "tensor" not in repr(outcome)
    assert "soup" not in repr(outcome)


A, B, VECTOR = torch.zeros(2, 3), torch.zeros(4, 2), torch.zeros(2)


@pytest.mark.parametrize(
    ("tensors", "check"),
    [
        ({}, "tensors"),
        ({"vector": VECTOR}, "tensors"),
        ({"A.q": A, "vector": VECTOR}, "tensors"),
        ({"A.q": A, "B.q": B}, "tensors"),
        ({"A.q": A, "B.q": B, "C.q": B, "vector": VECTOR}, "tensors"),
        ({"A.q": A, "B.k": B, "vector": VECTOR}, "tensors"),
        ({"A.q": A[:1], "B.q": B, "vector": VECTOR}, "A.q"),
        ({"A.q": A, "B.q": B[:, :1], "vector": VECTOR}, "B.q"),
        ({"A.q": A[0], "B.q": B, "vector": VECTOR}, "A.q"),
        ({"A.q": A, "B.q": B[None], "vector": VECTOR}, "B.q"),
        ({"A.q": A[:, :0], "B.q": B, "vector": VECTOR}, "A.q"),
        ({"A.q": A, "B.q": B.double(), "vector": VECTOR}, "B.q"),
        ({"A.q": A, "B.q": B, "vector": VECTOR[None]}, "vector"),
        ({"A.q": A, "B.q": B, "vector": VECTOR[:0]}, "vector"),
        ({"A.q": A, "B.q": B / 0, "vector": VECTOR}, "B.q"),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(tensors: dict[str, Tensor], check: str) -> None:
    with pytest.raises(MalformedAdapter) as caught:
        LowRankAdapter("0" * 64, "1" * 64, 2, 4.0, tensors)
    assert caught.value.check == check


@pytest.mark.parametrize(("rank", "alpha"), [(0, 4.0), (-1, 4.0), (2, float("nan")), (2, float("inf"))])
def test_rank_and_alpha_are_checked(rank: int, alpha: float) -> None:
    with pytest.raises(MalformedAdapter, match="rank and alpha"):
        LowRankAdapter("0" * 64, "1" * 64, rank, alpha, {"A.q": A, "B.q": B, "vector": VECTOR})
