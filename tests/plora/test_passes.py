"""Passes run the layers below the first target once, give the same numbers, and leave no trace."""

import pytest
import torch
from torch import Tensor

import plora
from plora import BaseModel, Basis, Example, Kind
from plora.examples import Row, encode, micro_batches, row_hits, row_losses
from plora.passes import forward, passes
from tests.plora import toys
from tests.plora.conftest import Toy, toy

MODELS = {"bert": toys.bert, "gpt2": toys.gpt2, "llama": toys.llama}


@pytest.fixture(scope="module", params=MODELS)
def deep(request: pytest.FixtureRequest) -> Toy:
    """Three layers, the last of them adapted."""
    kind = Kind.CLASSIFICATION if request.param == "bert" else Kind.CAUSAL_LM
    return toy(MODELS[request.param](3), kind, framed=request.param == "bert", layers=1)


def rows_of(base: BaseModel, basis: Basis, count: int = 9) -> list[Row]:
    long = Example("the soup was very good and the bed was very bad", "like")
    return [encode(base, basis, example) for example in [*toys.reviews(count - 1, 3), long]]


def without_reuse(toy: Toy, live: plora.Attachment, rows: list[Row], vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and gradients by plain whole forwards."""
    losses, gradients = torch.zeros(len(rows)), torch.zeros_like(vectors)
    for batch in micro_batches(toy.base, toy.basis.kind, rows):
        leaf = torch.zeros(len(batch.ids), vectors.shape[1])
        leaf[: len(batch.index)] = vectors[batch.index]
        leaf.requires_grad_()
        with live.use(leaf):
            found = row_losses(forward(toy.base, batch.ids, batch.mask), batch.targets)
        (gradient,) = torch.autograd.grad(found.sum(), leaf)
        losses[batch.index] = found.detach()[: len(batch.index)]
        gradients[batch.index] = gradient[: len(batch.index)]
    return losses, gradients


def test_losses_and_gradients_are_those_of_whole_passes(deep: Toy) -> None:
    rows = rows_of(deep.base, deep.basis)
    with plora.attached(deep.base, deep.basis) as live, passes(plora.Engine(deep.base, deep.basis), rows) as run:
        for seed in range(3):  # the first records, the others replay
            vectors = toys.vectors(len(rows), seed=seed)
            losses, gradients = run.gradients(vectors)
            expected_losses, expected_gradients = without_reuse(deep, live, rows, vectors)
            assert gradients.abs().sum() > 0
            torch.testing.assert_close(losses, expected_losses, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(gradients, expected_gradients, atol=1e-6, rtol=1e-5)


def test_a_replayed_pass_is_bit_for_bit_the_recorded_one(deep: Toy) -> None:
    rows = rows_of(deep.base, deep.basis)
    vectors = toys.vectors(len(rows))
    with passes(plora.Engine(deep.base, deep.basis), rows) as run:
        first, again = run.gradients(vectors), run.gradients(vectors)
        measured = run.each(vectors, row_losses)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    torch.testing.assert_close(measured, first[0], atol=1e-6, rtol=1e-6)


def test_inactive_rows_cost_nothing_and_change_nobody(deep: Toy) -> None:
    rows = rows_of(deep.base, deep.basis)
    vectors = toys.vectors(len(rows))
    active = torch.tensor([True, False, True, False, False, True, False, False, True])
    with passes(plora.Engine(deep.base, deep.basis), rows) as run:
        losses, gradients = run.gradients(vectors)
        some_losses, some_gradients = run.gradients(vectors, active)
        assert torch.equal(some_losses[active], losses[active])
        assert torch.equal(some_gradients[active], gradients[active])
        none, nothing = run.gradients(vectors, torch.zeros(9, dtype=torch.bool))
    assert not none.any()
    assert not nothing.any()


def feed_forwards(engine: plora.Engine) -> list[torch.nn.Module]:
    """One module of each block of the engine's copy that runs once in the block's forward."""
    names = dict(engine.module.named_modules())
    return [names[name] for name in names if name.rpartition(".")[2] in ("intermediate", "mlp")]


def test_the_layers_below_run_once_however_many_passes(deep: Toy) -> None:
    engine = plora.Engine(deep.base, deep.basis)
    calls = {0: 0, 1: 0, 2: 0}
    for at, module in enumerate(feed_forwards(engine)):
        module.register_forward_pre_hook(lambda *_, at=at: calls.update({at: calls[at] + 1}))
    rows = rows_of(deep.base, deep.basis)
    with passes(engine, rows) as run:
        batches = len(run.batches())
        for _ in range(4):
            run.gradients(toys.vectors(len(rows)))
    assert calls == {0: batches, 1: batches, 2: 4 * batches}


def test_what_is_beyond_the_bound_is_run_again_with_the_same_result(deep: Toy) -> None:
    rows = rows_of(deep.base, deep.basis)
    vectors = toys.vectors(len(rows))
    with passes(plora.Engine(deep.base, deep.basis), rows) as run:
        kept = [run.gradients(vectors) for _ in range(2)]
    with passes(plora.Engine(deep.base, deep.basis), rows) as run:
        run._kept._room = 2000
        again = [run.gradients(vectors) for _ in range(2)]
        assert 0 < len(run._kept._rows) < len(rows)
    for one, other in zip(kept, again, strict=True):
        assert torch.equal(one[1], other[1])


def test_closing_zeroes_and_drops_what_was_kept_of_the_texts(deep: Toy) -> None:
    rows = rows_of(deep.base, deep.basis)
    with passes(plora.Engine(deep.base, deep.basis), rows) as run:
        run.gradients(toys.vectors(len(rows)))
        kept = list(run._kept._rows.values())
        assert kept
        assert all(value.any() for value in kept)
    assert not any(value.any() for value in kept)
    assert not run._kept._rows
    assert run.count == 0


def test_closing_also_happens_when_a_pass_raises(deep: Toy) -> None:
    rows = rows_of(deep.base, deep.basis)
    engine = plora.Engine(deep.base, deep.basis)
    names = [(name, id(child)) for name, child in engine.module.named_modules()]
    kept: list[Tensor] = []

    def interrupted() -> None:
        with passes(engine, rows) as run:
            run.gradients(toys.vectors(len(rows)))
            kept.extend(run._kept._rows.values())
            hook = feed_forwards(engine)[2].register_forward_hook(lambda *_: 1 / 0)
            try:
                run.gradients(toys.vectors(len(rows)))
            finally:
                hook.remove()

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert kept
    assert not any(value.any() for value in kept)
    assert [(name, id(child)) for name, child in engine.module.named_modules()] == names
    assert all(not module._forward_pre_hooks for module in engine.module.modules())


def test_an_engine_never_touches_the_model_it_was_made_from(deep: Toy) -> None:
    before, names = deep.logits(), [(name, id(child)) for name, child in deep.base.module.named_modules()]
    engine = plora.Engine(deep.base, deep.basis)
    with plora.attached(deep.base, deep.basis):  # a host goes on using its model
        inside = deep.logits()
        with passes(engine, rows_of(deep.base, deep.basis)) as run:
            run.gradients(toys.vectors(9))
        assert torch.equal(deep.logits(), inside)
    assert torch.equal(deep.logits(), before)
    assert [(name, id(child)) for name, child in deep.base.module.named_modules()] == names


def test_every_micro_batch_of_a_length_has_the_same_shape_and_every_row_is_in_one(any_toy: Toy) -> None:
    rows = rows_of(any_toy.base, any_toy.basis, 70)
    batches = micro_batches(any_toy.base, any_toy.basis.kind, rows)
    assert sorted(int(i) for batch in batches for i in batch.index) == list(range(70))
    shapes = {tuple(batch.ids.shape) for batch in batches}
    assert len({length for _, length in shapes}) == len(shapes)
    assert len(batches) > len(shapes)


def test_a_causal_rows_loss_is_the_mean_over_its_answers_tokens(any_lm: Toy) -> None:
    row = encode(any_lm.base, any_lm.basis, Example("the soup was", "very good"))
    (batch,) = micro_batches(any_lm.base, Kind.CAUSAL_LM, [row])
    with torch.no_grad():
        logits = forward(any_lm.base, batch.ids, batch.mask)
    very, good, end = any_lm.base.tokenizer.convert_tokens_to_ids(["very", "good", "[END]"])
    chances = logits[0].log_softmax(-1)
    expected = -(chances[2, very] + chances[3, good] + chances[4, end]) / 3
    torch.testing.assert_close(row_losses(logits, batch.targets)[0], expected, atol=1e-6, rtol=1e-6)
    assert not row_losses(logits, batch.targets)[1:].any()
    right = sum(int(chances[at].argmax()) == token for at, token in ((2, very), (3, good), (4, end)))
    assert float(row_hits(logits, batch.targets)[0]) == pytest.approx(right / 3)


def test_an_answer_longer_than_the_model_reads_is_cut_not_refused(any_lm: Toy) -> None:
    row = encode(any_lm.base, any_lm.basis, Example("the soup " * 40, "very good " * 40))
    assert len(row.ids) == any_lm.base.max_tokens
    assert row.target >= 1
