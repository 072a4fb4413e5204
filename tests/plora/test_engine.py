"""An engine computes what the attached model computes: folded, fused, in whatever precision, and within its memory."""

import resource
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch

import plora
from plora import Engine, Kind, Link, Precision
from plora.basis import BasisSpec, find_targets, fresh_basis
from plora.examples import Row, encode_all, row_losses
from plora.passes import forward, passes, take
from tests.plora import toys
from tests.plora.conftest import Toy, toy

TEXTS = [*toys.reviews(7, 3), plora.Example("the soup was very good and the bed was very bad", "like")]


def rows_of(toy: Toy) -> list[Row]:
    return encode_all(toy.base, toy.basis, TEXTS)


def attached_logits(toy: Toy, rows: list[Row], vectors: torch.Tensor) -> torch.Tensor:
    """(rows, ...) the logits of the model with the Basis attached, as a host computes them."""
    with plora.attached(toy.base, toy.basis) as live, torch.no_grad():
        found = []
        for at, row in enumerate(rows):
            ids = torch.tensor([row.ids])
            with live.use(vectors[at : at + 1]):
                found.append(forward(toy.base, ids, torch.ones_like(ids))[0])
    return found


@pytest.mark.parametrize(
    ("precision", "tolerance"), [(Precision.FP32, 2e-5), (Precision.BF16, 0.15), (Precision.FP16, 0.02)]
)
def test_an_engine_gives_the_attached_models_logits(any_toy: Toy, precision: Precision, tolerance: float) -> None:
    rows, vectors = rows_of(any_toy), toys.vectors(8) * 0.3
    wanted = attached_logits(any_toy, rows, vectors)
    with passes(Engine(any_toy.base, any_toy.basis, precision), rows) as run:
        for batch in run.batches():
            found = run.logits(batch, take(vectors, batch)).detach().float()
            for at, index in enumerate(batch.index.tolist()):
                expected = wanted[index]
                real = found[at] if found.dim() == 2 else found[at, : expected.shape[0]]
                scale = float(expected.abs().max())
                assert float((real.log_softmax(-1) - expected.log_softmax(-1)).abs().max()) <= tolerance * scale


def test_bert_likes_are_run_by_hand_and_others_by_their_own_forward(any_toy: Toy) -> None:
    by_hand = any_toy.base.module.config.model_type in ("bert", "roberta")
    assert (Engine(any_toy.base, any_toy.basis).encoder is not None) == by_hand


def test_a_model_whose_head_reads_other_tokens_is_not_run_by_hand() -> None:
    module = toys.bert()
    pooler = module.bert.pooler
    pooler.forward = lambda hidden: torch.tanh(pooler.dense(hidden.mean(1)))  # reads all tokens, not the first
    odd = toy(module, Kind.CLASSIFICATION, framed=True)
    assert Engine(odd.base, odd.basis).encoder is None
    rows, vectors = rows_of(odd), toys.vectors(8)
    with passes(Engine(odd.base, odd.basis), rows) as run:
        losses = run.losses(vectors)
    assert losses.std() > 0


def test_the_folded_layer_shares_no_memory_with_the_models_weight(any_toy: Toy) -> None:
    engine = Engine(any_toy.base, any_toy.basis)
    targets = set(any_toy.basis.spec.targets)
    own = {name: value.data_ptr() for name, value in any_toy.base.module.state_dict().items()}
    for name in targets:
        assert engine.module.get_submodule(name).weight.data_ptr() != own[f"{name}.weight"]
    embedding = any_toy.base.module.get_input_embeddings().weight.data_ptr()
    assert engine.module.get_input_embeddings().weight.data_ptr() == embedding  # and what it does not change is shared


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
@pytest.mark.parametrize("link", list(Link))
def test_a_rows_place_in_its_micro_batch_does_not_show_in_its_numbers(
    minilm: plora.BaseModel, link: Link, precision: Precision
) -> None:
    spec = BasisSpec(minilm.fingerprint, Kind.CLASSIFICATION, ("1", "2", "3"),
                     find_targets(minilm.module, last_layers=2), 4, 8.0, 8, link)  # fmt: skip
    engine = Engine(minilm, toys.loud(fresh_basis(minilm.module, spec, 0)), precision)
    assert engine.encoder is not None
    ids = torch.randint(1000, 20_000, (1, 24), generator=torch.Generator().manual_seed(0))
    for rows in (2, 3, 5, 8, 10, 21, 42):
        mask, leaf = torch.ones(rows, 24, dtype=torch.long), toys.vectors(1).repeat(rows, 1).requires_grad_()
        hidden = engine.encoder.begin(ids.repeat(rows, 1), mask, engine.first_block).detach()
        raw = engine.encoder.finish(hidden, mask, leaf, engine.first_block)
        (slope,) = torch.autograd.grad(raw[:, -1].sum(), leaf)
        assert bool((raw == raw[0]).all()), rows
        assert bool((slope == slope[0]).all()), rows


def test_an_engine_of_another_basis_is_refused(bert: Toy) -> None:
    engine = Engine(bert.base, bert.basis)
    with pytest.raises(plora.WrongBasis):
        plora.fit(bert.base, bert.fresh, [TEXTS], engine=engine)
    with pytest.raises(plora.WrongBasis):
        plora.score(bert.base, bert.fresh, [], engine=engine)


def test_an_engine_of_another_base_model_is_refused(bert: Toy, roberta: Toy) -> None:
    with pytest.raises(plora.WrongBaseModel):
        Engine(roberta.base, bert.basis)


def test_ordered_labels_come_from_one_number(bert: Toy) -> None:
    base = bert.base
    spec = BasisSpec(base.fingerprint, Kind.CLASSIFICATION, tuple("12345"), find_targets(base.module), 4, 8.0, 8,
                     Link.ORDINAL)  # fmt: skip
    basis = fresh_basis(base.module, spec, 0)
    again = plora.loads_basis(plora.dumps(basis))
    assert (again.spec, again.fingerprint) == (spec, basis.fingerprint)
    loud = {name: value + 0.2 * torch.randn(value.shape) for name, value in basis.tensors.items()}
    basis = plora.Basis(spec, loud)
    examples = [plora.Example(each.text, "12345"[at % 5]) for at, each in enumerate(TEXTS)]
    rows = encode_all(base, basis, examples)
    ordinal = Toy(base, basis, basis)
    wanted = attached_logits(ordinal, rows, toys.vectors(8))
    with passes(Engine(base, basis), rows) as run:
        assert run.engine.link is not None
        assert run.engine.link.width == 1
        (batch, *_) = run.batches()
        found = run.logits(batch, take(toys.vectors(8), batch)).detach().float()
        for at, index in enumerate(batch.index.tolist()):
            torch.testing.assert_close(found[at].exp(), wanted[index].exp(), atol=2e-5, rtol=1e-4)
            assert float(found[at].exp().sum()) == pytest.approx(1, abs=1e-4)
    (outcome,) = plora.fit(base, basis, [examples], plora.FitSettings(prior=4.0))
    assert isinstance(outcome, plora.Fitted)
    assert outcome.passes == 1.5  # five labels, one backward
    assert outcome.loss < outcome.loss_before


def test_micro_batches_shrink_when_memory_runs_out_and_the_result_stands(bert: Toy) -> None:
    rows = rows_of(bert) * 200
    whole = Engine(bert.base, bert.basis)
    with passes(whole, rows) as run:
        wanted = run.losses(None)
    tight = Engine(bert.base, bert.basis)
    tight.tokens_per_batch = 4096
    tried: list[int] = []

    def work(run: plora.passes.Passes, _: list[int]) -> torch.Tensor:
        tried.append(run.engine.tokens_per_batch)
        if run.engine.tokens_per_batch > 1024:
            raise torch.OutOfMemoryError("out of memory")
        return run.losses(None)

    from plora.passes import with_room  # noqa: PLC0415

    assert torch.allclose(with_room(tight, [rows], work), wanted, atol=1e-6)
    assert tried == [4096, 2048, 1024]


def test_other_errors_are_not_taken_for_a_lack_of_memory(bert: Toy) -> None:
    from plora.passes import with_room  # noqa: PLC0415

    def work(*_: object) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes"):
        with_room(Engine(bert.base, bert.basis), [rows_of(bert)], work)


OUT_OF_MEMORY = """
    import resource, sys, torch, plora
    from plora.passes import with_room
    from tests.plora import toys
    from tests.plora.conftest import toy
    torch.set_num_threads(1)
    it = toy(toys.bert(), plora.Kind.CLASSIFICATION, framed=True)
    engine = plora.Engine(it.base, it.basis)
    cohort = [toys.reviews(16, user) for user in range(8)]
    wanted = plora.fit(it.base, it.basis, cohort, engine=engine)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)
    engine.tokens_per_batch = 1 << 21   # one micro-batch would take gigabytes
    found = plora.fit(it.base, it.basis, cohort, engine=engine)
    assert engine.tokens_per_batch < 1 << 21, engine.tokens_per_batch
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(one.adapter.vector, other.adapter.vector, atol=1e-4, rtol=1e-4)
    print("settled at", engine.tokens_per_batch)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and limits the address space")
def test_a_process_short_of_memory_fits_in_smaller_micro_batches() -> None:
    assert resource.RLIMIT_AS
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OUT_OF_MEMORY)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("settled at")


def test_losses_of_no_active_row_are_nothing(bert: Toy) -> None:
    with passes(Engine(bert.base, bert.basis), rows_of(bert)) as run:
        assert not run.losses(None, torch.zeros(8, dtype=torch.bool)).any()
        assert run.each(None, row_losses).shape == (8,)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_compiled_passes_give_the_same_fit(name: str, request: pytest.FixtureRequest) -> None:
    it: Toy = request.getfixturevalue(name)
    cohort = [toys.reviews(4, seed) for seed in range(3)]
    wanted = plora.fit(it.base, it.basis, cohort)
    compiled = Engine(it.base, it.basis)
    compiled.compile("default")
    for one, other in zip(wanted, plora.fit(it.base, it.basis, cohort, engine=compiled), strict=True):
        assert isinstance(one, plora.Fitted)
        assert isinstance(other, plora.Fitted)
        torch.testing.assert_close(one.adapter.vector, other.adapter.vector, atol=1e-3, rtol=1e-3)
