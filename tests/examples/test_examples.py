"""The examples, as a host's developer would start them, against a real daemon behind a port."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import plora
from daemon.settings import Settings
from tests.daemon.conftest import World, example, open_world
from tests.daemon.serving import listening
from tests.plora import toys

ROOT = Path(__file__).parents[2]
TEXT = "the soup was good and the bed"


def world_of(module, tokenizer, folder: Path, kind: plora.Kind) -> Iterator[tuple[World, str]]:
    """A daemon on this tiny model, where ann has an adapter, and where it listens."""
    module.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    base = plora.load(str(folder / "model"), kind=kind)
    labels = toys.LABELS if kind is plora.Kind.CLASSIFICATION else ()
    basis = toys.loud(toys.basis_on(base.module, base.fingerprint, labels=labels))
    settings = Settings(data_dir=folder / "data", keys_dir=folder / "keys", trainer="in-process", default_consent=True)
    for world in open_world(replace(settings, model=str(folder / "model"), model_kind=kind.value)):
        world.give_basis(plora.dumps(basis), basis.fingerprint, base.fingerprint)
        world.post(example(1, "ann", data={"text": "the very bad bed", "label": toys.LABELS[0]}))
        adapter = plora.Adapter.of(basis, torch.full((8,), 2.0))
        world.give_adapter("ann", plora.dumps(adapter), basis.fingerprint)
        with listening(world) as url:
            yield world, url


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Iterator[tuple[World, str]]:
    folder = tmp_path_factory.mktemp("classifier")
    yield from world_of(toys.bert(), toys.tokenizer(framed=True), folder, plora.Kind.CLASSIFICATION)


@pytest.fixture(scope="module")
def writer(tmp_path_factory) -> Iterator[tuple[World, str]]:
    tokenizer = toys.tokenizer(framed=False)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    yield from world_of(toys.gpt2(), tokenizer, tmp_path_factory.mktemp("writer"), plora.Kind.CAUSAL_LM)


def run(served: tuple[World, str], *words: str) -> str:
    """What the example prints."""
    world, url = served
    token = world.token()["Authorization"].removeprefix("Bearer ")
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"PLORA_URL": url, "PLORA_TOKEN": token, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_host_asks_corrects_and_answers_itself(classifier):
    world, _ = classifier
    before = world.counts()
    told = run(classifier, "examples/classification_host.py", "ann", TEXT, "--right", toys.LABELS[0])
    assert "version 1" in told
    assert "the very bad bed" in told
    assert world.counts() == before + 1
    folder = world.service.parts.settings.model
    here = run(classifier, "examples/classification_host.py", "ann", TEXT, "--local", folder)
    assert here.split()[0] == told.split()[0]


def test_a_chat_is_streamed(writer):
    told = run(writer, "examples/chat_host.py", "ann", TEXT)
    assert told.endswith("\n")


def test_a_file_is_scored_whole_in_either_form(classifier, tmp_path):
    rows = [{"user": ("ann", "nobody")[at % 2], "text": f"{TEXT} {at}"} for at in range(300)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    for end in ("jsonl", "parquet"):
        run(classifier, "examples/batch_score.py", str(tmp_path / f"in.{end}"), str(tmp_path / f"out.{end}"))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert lines == table
    assert [row["user"] for row in lines] == [row["user"] for row in rows]
    assert {row["version"] for row in lines if row["user"] == "ann"} == {1}
    assert {row["version"] for row in lines if row["user"] == "nobody"} == {None}
