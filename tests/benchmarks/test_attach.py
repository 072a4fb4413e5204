"""python -m benchmarks.attach on tiny models: what is measured is what is meant, and a bound can be missed."""

import json
from dataclasses import replace

import pytest

import plora
from benchmarks.attach import exact, loading, mixed
from benchmarks.attach.__main__ import Plan, main, run
from benchmarks.attach.report import LOW, VECTOR, Found, bounds, write
from benchmarks.attach.subjects import Subject, subject
from plora import Kind, Residents
from tests.plora import toys

PLAN = Plan(rows=4, puts=8, low_rank_puts=4, held=64, turns=4, rounds=1, compared=3, alone=False)


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def tiny(request) -> Subject:
    framed = request.param == "bert"
    kind = Kind.CLASSIFICATION if framed else Kind.CAUSAL_LM
    base = plora.wrap(getattr(toys, request.param)(), toys.tokenizer(framed=framed), kind=kind, max_tokens=24)
    return subject(request.param, base, 6)


def test_ours_and_pefts_mixed_batch_are_the_same_function_of_the_same_numbers(tiny, tmp_path):
    users = tiny.low_ranks(4, 6)
    batches = mixed.Batches(tiny, tiny.vectors(4, 5), users)
    waits, model = loading.peft(tiny, users, tmp_path)
    assert exact.against_peft(batches, model, users) < 1e-5
    assert exact.against_peft(batches, model, users[::-1]) > 1e-3  # another's rows are not
    assert {wait.way for wait in waits} >= {"PEFT load_adapter", "PEFT hotswap, 4 loaded", "PEFT set_adapter, 4 loaded"}


def test_what_is_sealed_is_what_is_put(tiny):
    users = [*tiny.vectors(3, 1), *tiny.low_ranks(3, 2)]
    sealed, held, wanted = loading.Sealed(users), Residents[int](tiny.basis), Residents[int](tiny.basis)
    for at, user in enumerate(users):
        sealed.put(held, at, at)
        wanted.put(at, user)
    batches = mixed.Batches(tiny, tiny.vectors(6, 1), tiny.low_ranks(6, 2))
    with plora.attached(tiny.base, tiny.basis) as live:
        with live.use(held.rows(range(6))):
            found = batches.bare(live.module)
        with live.use(wanted.rows(range(6))):
            assert (batches.bare(live.module) == found).all()
        with live.use(users):
            assert (batches.bare(live.module) - found).abs().max() < 1e-6


@pytest.mark.long
def test_a_run_writes_every_figure_and_its_bound(tiny, tmp_path):
    found = Found()
    run(tiny, PLAN, found, lambda _: None)
    told, _ = write(tmp_path, found, {"cpu": "one"})
    body = json.loads((tmp_path / "attach.json").read_text())
    assert {row["way"] for row in body["waits"]} >= {VECTOR, LOW, "PEFT load_adapter"}
    assert {row["way"] for row in body["mixed"]} >= {mixed.BARE, mixed.PEFT_MIXED, "folded, vectors", "speaker, rank 8"}
    assert [row["held"] for row in body["growth"]] == [64]
    assert all(row["solo"] <= 1e-5 and row["broken"] == 0 < row["moved"] for row in body["exact"])
    assert len(body["bounds"]) == 4 + 2 * 2 * 2 + 3 * 2 * 3
    assert f"| {tiny.name} | sealed vector |" in told


def test_a_slow_figure_breaks_its_bound(tiny):
    found = Found(waits=[loading.Wait(tiny.name, VECTOR, 9, 10.0, 999.0, 244)])
    assert [each.holds for each in bounds(found)] == [True]
    found.waits = [replace(found.waits[0], p99_us=1001.0), loading.Wait(tiny.name, "PEFT load_adapter", 9, 9e3, 9e3, 9)]
    assert [each.holds for each in bounds(found)] == [False, False]
    found.growth = [loading.Growth(tiny.name, 9, 1.0, 1.2, 1.2, 1.0)]
    found.mixed = [mixed.Mixed(tiny.name, "folded, rank 8", 1, 1.0, 0.89, 1.3)]
    found.exact = [exact.Exact(tiny.name, "folded, vector", 1, 2e-5, 0.0, 1e-9, 1.0, 1.0)]
    assert [each.holds for each in bounds(found)[2:]] == [False, False, True, False, True, False]


def test_an_unknown_subject_is_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as done:
        main(["--out", str(tmp_path), "--subjects", "magic"])
    assert done.value.code == 2
    assert "'magic' is not one of" in capsys.readouterr().err
