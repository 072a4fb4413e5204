"""python -m benchmarks.quality on a tiny model and made-up people: what it writes, and that it goes on."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.quality import raws
from benchmarks.quality.__main__ import main
from benchmarks.quality.measuring import explained
from benchmarks.quality.rows import DELTAS, MEASURES
from plora import UnknownLabel
from tests.plora import toys

ROOT = Path(__file__).parents[2]
METHODS = ("generic", "label_prior", "wrong_user", "ours", "floor_bias", "floor_user", "floor_both")
USERS = 9


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A tiny classifier in a folder, as Hugging Face saves it."""
    folder = tmp_path_factory.mktemp("model")
    toys.bert().save_pretrained(folder)
    toys.tokenizer(framed=True).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Grades of dishes: some people like everything better, and one test has a grade that nobody learned."""
    draw = random.Random(0)
    file = tmp_path_factory.mktemp("data") / "dishes.jsonl"
    rows = []
    for user in range(USERS):
        kind = draw.choice([-1, 0, 1])
        for at in range(14):
            text = " ".join(draw.choices(toys.WORDS, k=5))
            grade = min(4, max(1, 2 + ("good" in text) - ("bad" in text) + kind))
            rows.append({"user": f"u{user}", "text": text, "label": grade, "split": "test" if at % 2 else "train"})
    rows.append({"user": "u0", "text": "", "label": 5, "split": "test"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def words(model, data, out, *more) -> list[str]:
    """A command line that measures in a few seconds."""
    sizes = ["--people", str(USERS), "--rows-per-user", "6", "--epochs", "1", "--last-layers", "1", "--shots", "2"]
    usual = ["--out", str(out), "--data", str(data), "--model", model, *sizes]
    chosen = {"--methods": ",".join(METHODS), "--seeds": "10,11", "--jobs": "0"} | dict(
        zip(more[::2], more[1::2], strict=True)
    )
    return [*usual, *(word for pair in chosen.items() for word in pair)]


def body(out) -> dict:
    return json.loads((out / "quality.json").read_text())


def measured(found) -> list[dict]:
    """Its rows without what a clock said."""
    return [{name: value for name, value in row.items() if name != "seconds_per_user"} for row in found["rows"]]


@pytest.fixture(scope="module")
def written(model, data, tmp_path_factory) -> Path:
    """The folder of a whole run."""
    out = tmp_path_factory.mktemp("out")
    assert main(words(model, data, out)) == 0
    return out


def test_every_method_has_every_measure_in_every_regime(written):
    found = body(written)
    places = {(row["regime"], row["shots"]) for row in found["rows"]}
    assert places == {("zero", 0), ("few", 2), ("few", -1), ("full", -1)}
    for row in found["rows"]:
        assert row["method"] in METHODS
        for name in (*MEASURES, *DELTAS, "harmed_share", "promoted_share"):
            assert row[f"{name}_low"] <= row[name] + 1e-9, (row["method"], name)
            assert row[name] <= row[f"{name}_high"] + 1e-9 or name == "ece", (row["method"], name)
        assert row["win"] + row["tie"] + row["loss"] == pytest.approx(1)
        assert row["seconds_per_user"] >= 0
    few = [row["method"] for row in found["rows"] if (row["regime"], row["shots"]) == ("few", 2)]
    assert few == list(METHODS)
    assert not found["failed"]


def test_controls_are_what_they_say(written):
    rows = {(row["regime"], row["shots"], row["method"]): row for row in body(written)["rows"]}
    assert rows["few", -1, "generic"]["delta_nll"] == 0
    assert rows["few", -1, "generic"]["tie"] == 1
    assert rows["zero", 0, "ours"]["nll"] == rows["zero", 0, "generic"]["nll"]
    assert ("zero", 0, "wrong_user") not in rows
    assert rows["few", -1, "ours"]["bytes_per_user"] > 0
    assert rows["few", -1, "ours"]["users"] == 6
    assert rows["full", -1, "ours"]["users"] == USERS  # two folds of three: everybody was of a population once
    assert rows["few", 2, "ours"]["learned"] == 2


def test_machine_settings_and_data_are_named(written):
    found = body(written)
    assert found["machine"]["command"].startswith("python -m benchmarks.quality")
    assert found["machine"].keys() >= {"cpu", "cores", "threads", "torch", "commit"}
    assert found["settings"]["people"] == USERS
    assert found["settings"]["population"]["epochs"] == 1
    assert found["datasets"]["dishes"]["users"] == USERS
    assert {figure["figure"] for figure in found["figures"]} >= {"bytes of a user", "share of users harmed by ours"}


def test_pictures_and_a_page_are_written(written):
    pytest.importorskip("matplotlib")
    assert set(body(written)["pictures"]) == {"few-dishes.png", "wins.png", "reliability.png"}
    assert all((written / name).read_bytes().startswith(b"\x89PNG") for name in body(written)["pictures"])
    page = (written / "quality.md").read_text()
    assert "## dishes" in page
    assert "nan" not in page


def test_nothing_that_is_written_holds_a_text_or_a_name(written, data):
    files = [*written.glob("*.json"), *written.glob("*.md"), *written.glob("raw/*")]
    said = "".join(file.read_text() for file in files)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    assert not [row for row in rows if row["text"] and row["text"] in said]
    assert '"u1"' not in said


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_stopped_and_ends_alike(model, data, written, tmp_path):
    command = [sys.executable, "-m", "benchmarks.quality", *words(model, data, tmp_path)]
    going = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(going.stderr.readline, "")
        assert any("label_prior" in line for line in lines)
    finally:
        going.kill()
        going.communicate()
    kept = raws.place(tmp_path, "dishes", 10, "generic")
    before = kept.stat().st_mtime_ns
    assert not (tmp_path / "quality.json").exists()
    assert main(words(model, data, tmp_path)) == 0
    assert kept.stat().st_mtime_ns == before
    assert measured(body(tmp_path)) == measured(body(written))
    assert body(tmp_path)["figures"] == body(written)["figures"]


def test_methods_measured_apart_are_reported_together(model, data, written, tmp_path):
    for method in ("generic", "ours"):
        assert main(words(model, data, tmp_path, "--methods", method, "--seeds", "10")) == 0
    assert main(["--out", str(tmp_path), "--report"]) == 0
    found = body(tmp_path)
    assert {row["method"] for row in found["rows"]} == {"generic", "ours"}
    assert all(row["delta_nll"] is not None for row in found["rows"])


@pytest.mark.long
def test_more_shots_are_added_to_what_is_there(model, data, tmp_path):
    assert main(words(model, data, tmp_path, "--methods", "generic", "--seeds", "10")) == 0
    assert main(words(model, data, tmp_path, "--methods", "generic", "--seeds", "10", "--shots", "2,4")) == 0
    assert {row["shots"] for row in body(tmp_path)["rows"] if row["regime"] == "few"} == {2, 4, -1}


@pytest.mark.long
def test_folds_run_in_processes_of_their_own(model, data, written, tmp_path):
    assert main(words(model, data, tmp_path, "--methods", "generic", "--jobs", "2")) == 0
    whole = [row for row in body(written)["rows"] if row["method"] == "generic"]
    apart = body(tmp_path)["rows"]
    assert [row["nll"] for row in apart] == [row["nll"] for row in whole]


def test_results_of_other_settings_are_left_out_with_the_reason(written, tmp_path):
    for raw in raws.read_all(written):
        other = replace(raw, key="other") if raw.method == "label_prior" and raw.seed == 10 else raw
        raws.write(tmp_path, other)
    (tmp_path / "facts.json").write_text((written / "facts.json").read_text())
    assert main(["--out", str(tmp_path), "--report"]) == 0
    assert "other data or settings" in body(tmp_path)["skipped"]["label_prior on dishes, seed 10"]


def test_a_file_without_splits_is_split_by_its_texts(model, data, tmp_path):
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    file = tmp_path / "unsplit.jsonl"
    kept = ({name: row[name] for name in ("user", "text", "label")} for row in rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert main(words(model, file, tmp_path / "out", "--methods", "generic", "--seeds", "10")) == 0
    assert {row["dataset"] for row in body(tmp_path / "out")["rows"]} == {"unsplit"}


def test_a_data_set_of_one_label_is_skipped_with_its_reason(model, data, tmp_path):
    rows = [json.loads(line) | {"label": "same"} for line in data.read_text().splitlines()]
    file = tmp_path / "dull.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(words(model, file, tmp_path / "out", "--methods", "generic", "--seeds", "10"))
    assert "one label only" in body(tmp_path / "out")["skipped"]["dull, seed 10"]
    assert body(tmp_path / "out")["rows"] == []


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--methods", "magic", "'magic' is not one of"),
        ("--datasets", "nowhere", "'nowhere' is not one of dishes"),
        ("--seeds", "ten", "--seeds must be whole numbers"),
        ("--shots", "0", "--shots must be 1 or more"),
        ("--people", "0", "--people must be 1 or more"),
        ("--jobs", "-1", "--jobs must be 0 or more"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(data, capsys, option, value, said):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", "nowhere", "--data", str(data), option, value])
    assert said in capsys.readouterr().err


def test_a_failure_is_named_without_what_it_quotes():
    assert "poison" not in explained(KeyError("very poison"))
    assert explained(UnknownLabel(3)) == f"UnknownLabel: {UnknownLabel(3)}"


def test_a_wrong_file_is_refused_by_its_line_before_anything_is_measured(model, data, tmp_path, capsys):
    file = tmp_path / "broken.jsonl"
    file.write_text(data.read_text() + "{}\n")
    assert main(words(model, file, tmp_path / "out")) == 2
    assert f"broken.jsonl, line {USERS * 14 + 2}: has no 'user'" in capsys.readouterr().err
    assert main(["--out", str(tmp_path / "none"), "--report"]) == 2
    assert "run without --report first" in capsys.readouterr().err
