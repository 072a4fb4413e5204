"""What one process writes another reads, and both make the same bytes of the same inputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import plora
from plora import Fitted, Judged
from tests.plora import another_process, toys
from tests.plora.conftest import Toy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, bert: Toy, trained: plora.Population) -> tuple[dict, dict, str]:
    """What this process and another one made of the same files; and the scores in memory, before any file."""
    files = tmp_path_factory.mktemp("files")
    model = files / "model"
    bert.base.module.save_pretrained(model)
    bert.base.tokenizer.save_pretrained(model)
    users = toys.toy_population(5, 5, seed=3)
    (files / "users.json").write_text(json.dumps([[(e.text, e.target) for e in user] for user in users]))
    (fitted,) = plora.fit(bert.base, trained.basis, users[:1])
    assert isinstance(fitted, Fitted)
    (scores,) = plora.score(bert.base, trained.basis, [Judged(fitted.adapter, users[0][:2], users[0][2:])])
    (files / "basis").write_bytes(plora.dumps(trained.basis))
    (files / "adapter").write_bytes(plora.dumps(fitted.adapter))
    other = subprocess.run(
        [sys.executable, str(Path(another_process.__file__)), str(model), str(files)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
        timeout=200,
    )
    return another_process.work(model, files), json.loads(other.stdout), scores.to_json()


def test_scores_from_disk_in_a_fresh_process_are_those_in_memory(told: tuple[dict, dict, str]) -> None:
    here, there, in_memory = told
    assert here["scores"] == there["scores"] == in_memory


def test_files_are_read_bit_for_bit_in_a_fresh_process(told: tuple[dict, dict, str]) -> None:
    here, there, _ = told
    assert (here["basis"], here["adapter"], here["fingerprint"]) == (
        there["basis"],
        there["adapter"],
        there["fingerprint"],
    )


def test_two_processes_make_the_same_adapter_bytes_of_the_same_examples(told: tuple[dict, dict, str]) -> None:
    here, there, _ = told
    assert len(here["adapters"]) == 5
    assert here["adapters"] == there["adapters"]


def test_two_processes_make_the_same_basis_bytes_of_the_same_population_and_seed(told: tuple[dict, dict, str]) -> None:
    here, there, _ = told
    assert here["population"] == there["population"]
