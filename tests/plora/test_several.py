"""Several Bases on one model: rows of all of them in one batch, each as if its Basis were alone."""

import pytest
import torch

import plora
from plora import Adapter, AlreadyAttached, WrongBaseModel, WrongBasis
from plora.several import attach_several
from tests.plora import toys
from tests.plora.conftest import Toy


def three(toy: Toy):
    """Bases with 3, 3 and 2 labels; the last one has fewer targets."""
    module, base = toy.base.module, toy.base.fingerprint
    labels = toy.basis.labels
    return [
        toy.basis,
        toys.loud(toys.basis_on(module, base, labels=labels), seed=8),
        toys.loud(toys.basis_on(module, base, labels=labels and ("no", "yes"), layers=1), seed=9),
    ]


def alone(toy: Toy, basis, user, ids) -> torch.Tensor:
    with plora.attached(toy.base, basis) as live, live.use([user]), torch.no_grad():
        return toy.base.module(input_ids=ids[None], attention_mask=torch.ones_like(ids[None])).logits[0]


def crowd(toy: Toy, bases):
    """Rows of all Bases, generic ones of each among them."""
    vectors = toys.vectors(6)
    rows = [Adapter.of(bases[at % 3], vector) for at, vector in enumerate(vectors)]
    return [*rows, None, bases[1], bases[2]]


def basis_of(bases, user):
    if user is None:
        return bases[0]
    return user if isinstance(user, plora.Basis) else next(each for each in bases if each.fingerprint == user.basis)


def test_each_row_is_answered_on_its_own_basis(any_toy: Toy) -> None:
    bases = three(any_toy)
    users, before = crowd(any_toy, bases), any_toy.logits()
    ids = torch.randint(5, 12, (len(users), 7), generator=torch.Generator().manual_seed(2))
    solo = [
        alone(any_toy, basis_of(bases, user), None if isinstance(user, plora.Basis) else user, row)
        for user, row in zip(users, ids, strict=True)
    ]
    live = attach_several(any_toy.base, bases)
    with live.use(users), torch.no_grad():
        mixed = any_toy.base.module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    labels = live.labels(users)
    for row, wanted, names in zip(mixed, solo, labels, strict=True):
        torch.testing.assert_close(row[..., : wanted.shape[-1]], wanted, atol=1e-5, rtol=1e-5)
        assert torch.isneginf(row[..., wanted.shape[-1] :]).all()
        assert not names or wanted.shape[-1] == len(names)
    live.detach()
    assert torch.equal(any_toy.logits(), before)


def test_bases_come_and_go_while_others_stay(any_toy: Toy) -> None:
    first, second, third = three(any_toy)
    user = Adapter.of(second, toys.vectors(1)[0])
    ids = torch.randint(5, 12, (7,), generator=torch.Generator().manual_seed(3))
    wanted, before = alone(any_toy, second, user, ids), any_toy.logits()
    live = attach_several(any_toy.base, [first])
    with pytest.raises(WrongBasis):
        live.use([user])
    live.add(second)
    live.add(third)
    with pytest.raises(AlreadyAttached):
        live.add(second)
    live.remove(first.fingerprint)
    assert [basis.fingerprint for basis in live.bases] == [second.fingerprint, third.fingerprint]
    with live.use([user]), torch.no_grad():
        found = any_toy.base.module(input_ids=ids[None], attention_mask=torch.ones_like(ids[None])).logits[0]
    torch.testing.assert_close(found[..., : wanted.shape[-1]], wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(WrongBasis):
        live.remove(first.fingerprint)
    live.detach()
    assert torch.equal(any_toy.logits(), before)


def test_a_row_that_is_not_a_number_spoils_no_other(bert: Toy) -> None:
    bases = three(bert)
    users = crowd(bert, bases)
    poisoned = Adapter.of(bases[0], torch.ones(8))
    poisoned.vector.fill_(float("nan"))
    ids = torch.randint(5, 12, (len(users), 7), generator=torch.Generator().manual_seed(2))
    live = attach_several(bert.base, bases)
    found = []
    for row in (users[0], poisoned):
        with live.use([row, *users[1:]]), torch.no_grad():
            found.append(bert.base.module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)
    live.detach()
    assert torch.equal(found[0][1:], found[1][1:])
    assert torch.isnan(found[1][0]).any()


def test_a_basis_of_another_model_is_refused_and_nothing_stays_on(bert: Toy, gpt2: Toy) -> None:
    before = bert.logits()
    with pytest.raises(WrongBaseModel):
        attach_several(bert.base, [bert.basis, gpt2.basis])
    assert torch.equal(bert.logits(), before)
    assert not [m for m in bert.base.module.modules() if type(m).__name__ == "PLoRALinear"]
