"""The demo's own parts: its people, its rows, its arithmetic."""

import gzip
import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daemon.demo.crowd import NEWCOMERS, POPULATION, BadRows, Labelled, from_file, simulated
from daemon.demo.generator import ceiling, people, reactions
from daemon.demo.measures import figures, label_prior, percentiles
from plora.controls import prior_shift


def test_the_simulated_crowd_is_the_same_for_a_seed_and_nobody_reads_a_text_twice():
    crowd = simulated(population=5, newcomers=3)
    assert crowd == simulated(population=5, newcomers=3)
    for one in crowd.participants:
        texts = [row.text for row in (*one.told, *one.unseen)]
        assert len(set(texts)) == len(texts)
    assert all(len(one.told) == 16 for one in crowd.of(NEWCOMERS))


def test_people_differ_and_their_labels_follow_what_they_like():
    first, second = people(2, seed=3)
    assert first.weights != second.weights
    shown = reactions(first, 400, seed=3)
    right = sum((reaction.likes >= 0.5) == (reaction.label == "like") for reaction in shown) / len(shown)
    assert right == pytest.approx(ceiling(shown), abs=0.06)


def rows(path: Path, lines: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_real_rows_keep_their_split_and_newcomers_tell_the_same_number(tmp_path: Path):
    lines = [
        {"user": f"u{user}", "text": f"text {number}", "label": number % 3, "split": "test" if number > 14 else "train"}
        for user in range(12)
        for number in range(20)
    ]
    packed = tmp_path / "rows.jsonl.gz"
    with gzip.open(packed, "wt") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)
    crowd = from_file(packed)
    assert (len(crowd.of(POPULATION)), len(crowd.of(NEWCOMERS))) == (8, 4)
    assert {len(one.told) for one in crowd.of(NEWCOMERS)} == {15}
    assert all(int(row.text.split()[1]) > 14 for one in crowd.participants for row in one.unseen)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"user": "a", "text": "t"}], "line 1"),
        ([{"user": "a", "text": 3, "label": "x"}], "not a string"),
        (["text"], "line 1"),
        ([{"user": "a", "text": "t", "label": "x", "split": "train"}], "6 are needed"),
    ],
)
def test_other_rows_are_refused_with_the_line_and_the_form_they_should_have(tmp_path: Path, lines, said):
    with pytest.raises(BadRows, match=said) as refused:
        from_file(rows(tmp_path / "rows.jsonl", lines))
    assert '"user"' in str(refused.value)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301


def test_a_file_that_is_not_there_or_not_packed_is_refused(tmp_path: Path):
    with pytest.raises(BadRows, match="cannot be read"):
        from_file(tmp_path / "nowhere.jsonl")
    (tmp_path / "rows.jsonl.gz").write_text("plain")
    with pytest.raises(BadRows, match="cannot be read"):
        from_file(tmp_path / "rows.jsonl.gz")


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(0, 99))
def test_the_label_prior_is_the_librarys(told: list[int], seed: int):
    generator = torch.Generator().manual_seed(seed)
    on_told = torch.rand(len(told), 3, generator=generator).softmax(-1)
    unseen = torch.rand(4, 3, generator=generator).softmax(-1)
    wanted = (unseen.log() + prior_shift(on_told, told)).softmax(-1)
    as_dicts = [[dict(zip("abc", row.tolist(), strict=True)) for row in part] for part in (unseen, on_told)]
    found = label_prior(as_dicts[0], [Labelled("t", "abc"[label]) for label in told], as_dicts[1])
    torch.testing.assert_close(torch.tensor([[shares[x] for x in "abc"] for shares in found]), wanted)


def test_figures_and_percentiles_by_hand():
    found = figures([Labelled("t", "a"), Labelled("t", "b")], [{"a": 0.5, "b": 0.5}, {"a": 0.75, "b": 0.25}])
    assert (found.accuracy, found.nll) == (0.5, pytest.approx((0.6931 + 1.3863) / 2, abs=1e-3))
    assert percentiles(range(1, 101)) == {"p50": 50, "p95": 95, "p99": 99}
    assert percentiles([]) == {"p50": None, "p95": None, "p99": None}
