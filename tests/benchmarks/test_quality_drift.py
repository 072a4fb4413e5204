"""Users who change, followed event by event: streams, ways to follow, and what is told of them."""

import gzip
import json
from pathlib import Path

import pytest
import torch

import plora
from benchmarks.quality.drift.followers import Follower, Way
from benchmarks.quality.drift.streams import AFTER, BEFORE, Story, streams
from benchmarks.quality.folds import Fold, Person
from plora import Engine, Example
from tests.plora import toys

LABELS = ("dislike", "like")


def person(name: str, liked: tuple[str, ...], seed: int) -> Person:
    rows = toys.reviews(BEFORE + AFTER, seed, liked)
    return Person(name, tuple(rows[:30]), tuple(rows[30:]))


@pytest.fixture(scope="module")
def fold() -> Fold:
    people = [person(f"u{at}", toys.TRIBES[2 + at % 2], at) for at in range(8)]
    return Fold("toy", 1, LABELS, False, (), tuple(people))


@pytest.fixture(scope="module")
def engine() -> Engine:
    base = plora.wrap(toys.bert(), toys.tokenizer(framed=True), kind=plora.Kind.CLASSIFICATION, max_tokens=24)
    settings = plora.PopulationSettings(rank=4, dimensions=4, epochs=2, last_layers=1)
    basis = plora.train_population(base, toys.toy_population(24, 16), settings).basis
    return Engine(base, basis)


def test_stories_change_what_comes_after_the_turn_and_nothing_before(fold: Fold) -> None:
    steady, mirrored, replaced = (streams(fold, story) for story in Story)
    assert len(steady) == 8
    for one, other, third in zip(steady, mirrored, replaced, strict=True):
        assert one.turn == BEFORE
        assert one.events[:BEFORE] == other.events[:BEFORE] == third.events[:BEFORE]
        for plain, turned in zip(one.events[BEFORE:], other.events[BEFORE:], strict=True):
            assert plain.text == turned.text
            assert {plain.target, turned.target} == set(LABELS)
        assert third.events[BEFORE:] != one.events[BEFORE:]


def test_a_mirrored_user_is_followed_sooner_by_the_watched_way_than_by_learning_from_everything(
    fold: Fold, engine: Engine
) -> None:
    told = streams(fold, Story.MIRRORED)
    late: dict[Way, float] = {}
    for way in (Way.ALL, Way.WATCHED):
        follower = Follower(way, engine, len(told))
        losses = []
        for start in range(0, BEFORE + AFTER, 4):
            own, _ = follower.losses([each.events[start : start + 4] for each in told])
            losses.append(torch.stack([one.mean() for one in own]).mean())
            follower.learn([each.events[: start + 4] for each in told], 4)
        late[way] = float(torch.stack(losses[-3:]).mean())
        if way is Way.WATCHED:
            assert all(state.rolled_back or state.begun_anew for state in follower.states)
            assert losses[5] < losses[0]  # before the turn it had learned something
    assert late[Way.WATCHED] < late[Way.ALL] - 0.1


def test_the_generic_way_never_moves(fold: Fold, engine: Engine) -> None:
    told = streams(fold, Story.STEADY)
    follower = Follower(Way.GENERIC, engine, len(told))
    follower.learn([each.events[:8] for each in told], 4)
    own, generic = follower.losses([each.events[8:12] for each in told])
    assert all(torch.equal(a, b) for a, b in zip(own, generic, strict=True))


def test_the_command_writes_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.quality.drift.__main__ import main  # noqa: PLC0415 - it makes a parser of sys.argv's

    rows = []
    for at in range(9):
        for n, each in enumerate(toys.reviews(60, at, toys.TRIBES[at % 4])):
            split = "train" if n % 2 else "test"
            rows.append({"user": f"u{at}", "text": f"{each.text} {n}", "label": each.target, "split": split})
    file = tmp_path / "toy.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert main(["--out", str(tmp_path / "out"), "--data", str(file), "--people", "9"]) == 0
    body = json.loads((tmp_path / "out" / "drift.json").read_text())
    assert {row["story"] for row in body["rows"]} == {"steady", "mirrored", "replaced"}
    assert {row["way"] for row in body["rows"]} == {way.value for way in Way}
    assert all(len(row["nll_by_batch"]) == (BEFORE + AFTER) // 4 for row in body["rows"])
    assert "| watched |" in capsys.readouterr().out


def test_a_bad_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.quality.drift.__main__ import main  # noqa: PLC0415 - it makes a parser of sys.argv's

    file = tmp_path / "bad.jsonl"
    file.write_text('{"user": "a", "text": 1, "label": "x"}\n')
    assert main(["--out", str(tmp_path), "--data", str(file)]) == 2
    assert "bad.jsonl, line 1" in capsys.readouterr().err


def test_examples_are_not_shown(fold: Fold) -> None:
    (first, *_) = streams(fold, Story.STEADY)
    assert isinstance(first.events[0], Example)
    assert first.events[0].text not in repr(first)
