"""python -m benchmarks.fit on a tiny model and generated people: what it writes, and what it says it skipped."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fit.arithmetic import compute
from benchmarks.fit.people import GENERATED, DataAbsent, Sizes, gather
from benchmarks.fit.plan import Plan, Setting, full, quick
from benchmarks.fit.run import run
from tests.plora import toys

ROOT = Path(__file__).parents[2]
FIELDS = {
    "mode",
    "users",
    "examples_per_user",
    "users_per_s",
    "ratio_to_peft",
    "passes",
    "nll",
    "nll_low",
    "nll_high",
    "peak_mb",
    "fraction_of_limit",
    "fraction_of_full_limit",
    "dataset",
    "seconds_per_user",
    "basis",
}
SIZES = Sizes(population=6, population_examples=6, tuning=2, reported=4, learned=4, test=4)
SETTING = Setting(GENERATED, 4, rounds=2, cohort=2, peers=1, bases=("last-1",))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A tiny classifier in a folder, as Hugging Face saves it."""
    folder = tmp_path_factory.mktemp("model")
    toys.bert().save_pretrained(folder)
    toys.tokenizer(framed=True).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def written(model, tmp_path_factory) -> tuple[Path, dict]:
    """A small run's folder and its fit.json."""
    out = tmp_path_factory.mktemp("out")
    modes = ("generic", "head", "newton", "newton-bf16", "adam", "limit")
    plan = Plan((SETTING,), SIZES, 2, (1,), 1, 2, modes=modes, parts=(), model=model)
    run(plan, out, lambda _: None)
    return out, json.loads((out / "fit.json").read_text())


@pytest.mark.long
def test_every_row_has_every_field_and_the_machine_is_named(written):
    body = written[1]
    assert body["rows"]
    assert all(row.keys() >= FIELDS for row in body["rows"])
    assert body["machine"].keys() >= {
        "cpu",
        "cores",
        "threads",
        "ram_gb",
        "torch",
        "transformers",
        "peft",
        "gpu",
        "seed",
    }
    assert body["machine"].keys() >= {"command", "commit"}


@pytest.mark.long
def test_ours_are_fitted_judged_and_held_against_the_limit(written):
    rows = {(row["mode"], row["precision"]): row for row in written[1]["rows"] if row["basis"] == "last-1"}
    newton = rows["newton", "fp32"]
    assert newton["users"] == 4
    assert newton["nll_low"] <= newton["nll"] <= newton["nll_high"]
    assert newton["fraction_of_limit"] > 0
    assert newton["passes"] > 0
    assert newton["delta_adam_low"] <= newton["delta_adam"] <= newton["delta_adam_high"]
    assert rows["adam", "fp32"]["ratio_to_adam"] == pytest.approx(1.0)
    assert rows["limit", "bf16"]["seconds_per_user"] > 0
    assert rows["generic", "fp32"]["users_per_s"] is None


@pytest.mark.long
def test_no_text_reaches_what_is_written(written):
    out, _ = written
    said = (out / "fit.json").read_text() + (out / "fit.md").read_text()
    crowd = gather(GENERATED, SIZES, 0)
    assert not any(example.text in said for user in crowd.reported for example in user.learned)


@pytest.mark.long
def test_a_basis_is_trained_once_and_then_read(written, model):
    out, first = written
    assert all(basis["fresh"] for basis in first["bases"])
    plan = Plan((SETTING,), SIZES, 2, (1,), 1, 2, modes=("newton",), parts=(), model=model)
    run(plan, out, lambda _: None)
    again = json.loads((out / "fit.json").read_text())
    assert not any(basis["fresh"] for basis in again["bases"])


@pytest.mark.long
def test_the_arithmetic_takes_its_figures_from_the_run(written):
    rows = [dict(row, examples_per_user=16) for row in written[1]["rows"]]
    text = compute(written[1] | {"rows": rows, "model": "minilm", "bytes": {"adapter": 1000}})
    assert "No GPU was at hand" in text
    assert "| adapter | 1000 | 1 |" in text


def test_absent_data_is_skipped_with_its_reason_and_people_are_generated(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PLORA_DATA", str(tmp_path / "nowhere"))
    setting = replace(SETTING, dataset="un_votes")
    plan = Plan((setting,), SIZES, 1, (1,), 1, 2, modes=("newton",), parts=(), model=model)
    run(plan, tmp_path, lambda _: None)
    body = json.loads((tmp_path / "fit.json").read_text())
    assert "PLORA_DATA" in body["skipped"]["un_votes"]
    assert {row["dataset"] for row in body["rows"]} == {GENERATED}


def test_the_groups_of_a_data_set_share_nobody():
    crowd = gather(GENERATED, SIZES, 0)
    groups = [{user.learned for user in crowd.tuning}, {user.learned for user in crowd.reported}]
    assert len(groups[0] | groups[1]) == len(groups[0]) + len(groups[1]) == 6
    assert len(crowd.population) == 6


def test_missing_data_names_its_place(monkeypatch, tmp_path):
    monkeypatch.setenv("PLORA_DATA", str(tmp_path))
    with pytest.raises(DataAbsent, match=r"jester\.jsonl\.gz is not in"):
        gather("jester", SIZES, 0)


def test_plans_ask_for_what_the_data_sets_have():
    assert {(setting.dataset, setting.examples) for setting in full().settings} == {
        (dataset, examples) for dataset in ("un_votes", "studemo_arousal", "jester") for examples in (4, 16, 64)
    }
    assert quick().only((GENERATED,)).settings[0].dataset == GENERATED


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed; `make bench` installs it")
@pytest.mark.long
def test_peft_is_measured_beside_ours(model, tmp_path):
    plan = Plan(
        (SETTING,), SIZES, 1, (1,), 1, 2, modes=("peft", "trainer", "peft-tuned", "newton"), parts=(), model=model
    )
    run(plan, tmp_path, lambda _: None)
    rows = {row["mode"]: row for row in json.loads((tmp_path / "fit.json").read_text())["rows"]}
    assert rows["peft"]["ratio_to_peft"] == pytest.approx(1.0)
    assert all(rows[mode]["nll"] > 0 and rows[mode]["passes"] == 10 for mode in ("peft", "trainer", "peft-tuned"))
    assert rows["newton"]["ratio_to_peft"] > 0


def test_a_wrong_mode_is_refused_in_one_line(tmp_path):
    words = [sys.executable, "-m", "benchmarks.fit", "--out", str(tmp_path), "--modes", "magic"]
    done = subprocess.run(words, cwd=ROOT, env=dict(os.environ), check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "'magic' is not one of" in done.stderr
