"""attach and detach: a Basis on a live model, one user for each row, and off again without a trace."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import plora
from plora import Adapter, AlreadyAttached, Basis, TargetsNotFound, WrongBaseModel, WrongBasis, WrongRows, WrongShape
from plora.passes import forward
from tests.plora import toys
from tests.plora.conftest import Toy


def users(toy: Toy) -> list[Adapter | None]:
    """One user for each of the toy's four rows, the third of them generic."""
    found: list[Adapter | None] = [Adapter.of(toy.basis, vector) for vector in toys.vectors(4)]
    found[2] = None
    return found


def modules(toy: Toy) -> list[tuple[str, int]]:
    return [(name, id(child)) for name, child in toy.base.module.named_modules()]


def test_a_fresh_basis_leaves_the_body_bit_identical_whoever_the_user(any_toy: Toy) -> None:
    before, logits = any_toy.hidden(), any_toy.logits()
    with plora.attached(any_toy.base, any_toy.fresh) as live, live.use(toys.vectors(4)):
        assert torch.equal(any_toy.hidden(), before)
        if any_toy.lm:
            assert torch.equal(any_toy.logits(), logits)


def test_a_basis_and_a_user_change_what_the_model_says(any_toy: Toy) -> None:
    before = any_toy.hidden()
    with plora.attached(any_toy.base, any_toy.basis) as live:
        generic = any_toy.hidden()
        with live.use(users(any_toy)):
            personal = any_toy.hidden()
    assert not torch.equal(generic, before)
    for row, adapter in enumerate(users(any_toy)):
        assert torch.equal(personal[row], generic[row]) is (adapter is None)


def test_detach_restores_the_very_same_modules_and_bits(any_toy: Toy) -> None:
    before, names, state = any_toy.logits(), modules(any_toy), toys.state_hash(any_toy.base.module.state_dict())
    live = plora.attach(any_toy.base, any_toy.basis)
    with live.use(users(any_toy)):
        assert not torch.equal(any_toy.logits(), before)
    assert modules(any_toy) != names
    live.detach()
    assert modules(any_toy) == names
    assert toys.state_hash(any_toy.base.module.state_dict()) == state
    assert torch.equal(any_toy.logits(), before)
    live.detach()
    assert modules(any_toy) == names


def test_disabled_is_bit_for_bit_the_frozen_body(any_toy: Toy) -> None:
    before = any_toy.hidden()
    with plora.attached(any_toy.base, any_toy.basis) as live, live.use(users(any_toy)), live.disabled():
        assert torch.equal(any_toy.hidden(), before)


def test_no_user_is_bit_for_bit_the_zero_vector(any_toy: Toy) -> None:
    with plora.attached(any_toy.base, any_toy.basis) as live:
        generic = any_toy.logits()
        for nobody in (None, torch.zeros(4, 8), [None] * 4, [Adapter.of(any_toy.basis, torch.zeros(8))] * 4):
            with live.use(nobody):
                assert torch.equal(any_toy.logits(), generic)


def test_a_row_among_other_users_is_the_row_alone(any_toy: Toy) -> None:
    ids, mask = any_toy.tokens()
    with plora.attached(any_toy.base, any_toy.basis) as live, torch.no_grad():
        with live.use(users(any_toy)):
            mixed = any_toy.logits()
        for row, adapter in enumerate(users(any_toy)):
            with live.use([adapter]):
                alone = forward(any_toy.base, ids[row : row + 1], mask[row : row + 1])
            kept = mask[row].bool() if any_toy.lm else slice(None)
            torch.testing.assert_close(mixed[row][kept], alone[0][kept], atol=1e-5, rtol=1e-6)


def test_another_rows_broken_vector_does_not_spread(any_toy: Toy) -> None:
    healthy = toys.vectors(4)
    broken = healthy.clone()
    broken[1] = float("nan")
    with plora.attached(any_toy.base, any_toy.basis) as live:
        with live.use(healthy):
            before = any_toy.logits()
        with live.use(broken):
            after = any_toy.logits()
    assert torch.isnan(after[1]).any()
    for row in (0, 2, 3):
        assert torch.equal(after[row], before[row])


def test_a_wrong_number_of_rows_is_refused(any_toy: Toy) -> None:
    attached = plora.attached(any_toy.base, any_toy.basis)
    with attached as live, live.use(users(any_toy)[:3]), pytest.raises(WrongRows) as caught:
        any_toy.logits()
    assert (caught.value.vectors, caught.value.rows) == (3, 4)


def test_two_threads_never_see_each_others_users(any_toy: Toy) -> None:
    first, second = users(any_toy), users(any_toy)[::-1]
    meet = threading.Barrier(2, timeout=60)
    with plora.attached(any_toy.base, any_toy.basis) as live:

        def serve(mine: list[Adapter | None]) -> list[Tensor]:
            seen = []
            for _ in range(5):
                with live.use(mine):
                    meet.wait()
                    seen.append(any_toy.logits())
                    meet.wait()
            return seen

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(serve, (first, second)))
        for mine, seen in zip((first, second), answers, strict=True):
            with live.use(mine):
                expected = any_toy.logits()
            for answer in seen:
                torch.testing.assert_close(answer, expected, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(answers[0][0], answers[1][0])


def test_a_second_basis_is_refused_until_the_first_is_detached(bert: Toy) -> None:
    with plora.attached(bert.base, bert.basis):
        with pytest.raises(AlreadyAttached):
            plora.attach(bert.base, bert.fresh)
        with pytest.raises(AlreadyAttached):
            plora.attach(bert.base.module, bert.basis)
    with plora.attached(bert.base, bert.fresh):
        pass


def test_a_live_module_can_be_attached_without_being_wrapped(bert: Toy) -> None:
    with plora.attached(bert.base.module, bert.basis) as live, live.use(users(bert)):
        bare = bert.logits()
    with plora.attached(bert.base, bert.basis) as live, live.use(users(bert)):
        assert torch.equal(bert.logits(), bare)


def test_attached_detaches_when_the_block_raises(bert: Toy) -> None:
    names = modules(bert)
    with pytest.raises(ZeroDivisionError), plora.attached(bert.base, bert.basis):
        raise ZeroDivisionError
    assert modules(bert) == names


def test_attaching_copies_the_basis_so_that_it_stays_as_it_is(bert: Toy) -> None:
    with plora.attached(bert.base, bert.basis) as live:
        for layer in live.layers.values():
            layer.B.data.zero_()
    assert Basis(bert.basis.spec, bert.basis.tensors).fingerprint == bert.basis.fingerprint


def changed(basis: Basis, **tensors: Tensor) -> Basis:
    return Basis(basis.spec, {**basis.tensors, **tensors})


def with_missing_target(basis: Basis) -> Basis:
    renamed = tuple(name.replace("query", "nowhere") for name in basis.spec.targets)
    spec = plora.BasisSpec(basis.base, basis.kind, basis.labels, renamed, 4, 8.0, 8)
    return Basis(spec, {name.replace("query", "nowhere"): value for name, value in basis.tensors.items()})


def with_wrong_target(basis: Basis) -> Basis:
    last = basis.spec.targets[-1]
    return changed(basis, **{f"A.{last}": torch.zeros(4, toys.HIDDEN + 1)})


def with_wrong_head(basis: Basis) -> Basis:
    return changed(basis, **{"head.weight": torch.zeros(3, toys.HIDDEN)})


def with_strange_head(basis: Basis) -> Basis:
    return changed(basis, **{"head.surprise": torch.zeros(3)})


def of_another_model(basis: Basis) -> Basis:
    spec = plora.BasisSpec("0" * 64, basis.kind, basis.labels, basis.spec.targets, 4, 8.0, 8)
    return Basis(spec, basis.tensors)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (with_missing_target, TargetsNotFound),
        (with_wrong_target, WrongShape),
        (with_wrong_head, WrongShape),
        (with_strange_head, WrongShape),
        (of_another_model, WrongBaseModel),
    ],
)
def test_an_attach_that_fails_leaves_the_model_untouched(
    bert: Toy, spoil: Callable[[Basis], Basis], error: type[Exception]
) -> None:
    before, names = bert.logits(), modules(bert)
    with pytest.raises(error):
        plora.attach(bert.base, spoil(bert.basis))
    assert modules(bert) == names
    assert torch.equal(bert.logits(), before)


def test_a_missing_target_is_answered_with_what_the_model_has(bert: Toy) -> None:
    with pytest.raises(TargetsNotFound) as caught:
        plora.attach(bert.base, with_missing_target(bert.basis))
    assert "bert.encoder.layer.0.attention.self.query" in str(caught.value)
    with pytest.raises(TargetsNotFound, match=r"q_proj.*query"):
        plora.find_targets(bert.base.module, ("q_proj",))
    with pytest.raises(TargetsNotFound, match=r"nowhere.*attention\.self\.query"):
        plora.fresh_basis(bert.base.module, with_missing_target(bert.basis).spec, 0)


def test_a_model_without_any_linear_is_refused() -> None:
    with pytest.raises(TargetsNotFound):
        plora.find_targets(nn.Sequential(nn.LayerNorm(3)))


def test_targets_can_be_limited_to_the_last_layers(any_toy: Toy) -> None:
    every, last = plora.find_targets(any_toy.base.module), plora.find_targets(any_toy.base.module, last_layers=1)
    assert set(last) < set(every)
    assert all(".1." in name for name in last)


def test_an_adapter_of_another_basis_or_base_is_refused_before_any_forward(any_toy: Toy) -> None:
    calls: list[int] = []
    stranger = Adapter.of(toys.loud(any_toy.fresh, seed=9), torch.ones(8))
    foreigner = Adapter("0" * 64, any_toy.basis.fingerprint, torch.ones(8))
    hook = any_toy.base.module.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        for adapter, error in ((stranger, WrongBasis), (foreigner, WrongBaseModel)):
            with plora.attached(any_toy.base, any_toy.basis) as live, pytest.raises(error):
                live.use([None, adapter])
            with pytest.raises(error):
                plora.predict(any_toy.base, any_toy.basis, ["the soup was good"], [adapter])
            example = plora.Example("the soup was good", "like")
            with pytest.raises(error):
                plora.score(any_toy.base, any_toy.basis, [plora.Judged(adapter, [], [example])])
    finally:
        hook.remove()
    assert calls == []
