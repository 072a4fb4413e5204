"""Base models: found, verified, frozen and named by their weights."""

import copy
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import plora
from plora import BaseModelNotFound, Kind, WrongModelFile
from plora.basemodel import MINILM_PACKAGE
from tests.plora import toys
from tests.plora.conftest import Toy


def saved(toy: Toy, folder: Path) -> Path:
    toy.base.module.save_pretrained(folder)
    toy.base.tokenizer.save_pretrained(folder)
    return folder


def test_a_local_folder_is_loaded_as_the_same_frozen_model(any_toy: Toy, tmp_path: Path) -> None:
    folder = saved(any_toy, tmp_path / "model")
    auto = Kind.CAUSAL_LM if any_toy.lm else Kind.CLASSIFICATION
    base = plora.load(str(folder), kind=auto, device="cpu", max_tokens=24)
    assert base.fingerprint == any_toy.base.fingerprint
    assert (base.kind, base.name, base.max_tokens) == (auto, str(folder), 24)
    assert not base.module.training
    assert not any(p.requires_grad for p in base.module.parameters())
    outcomes = [plora.fit(b, any_toy.basis, [toys.reviews(2, 1)])[0] for b in (base, any_toy.base)]
    vectors = [o.adapter.vector for o in outcomes if isinstance(o, plora.Fitted)]
    assert torch.equal(*vectors)


def test_a_model_in_half_precision_is_adapted_too(any_toy: Toy) -> None:
    module = copy.deepcopy(any_toy.base.module).to(torch.bfloat16)
    half = plora.wrap(module, any_toy.base.tokenizer, kind=any_toy.base.kind)
    made = plora.train_population(half, toys.toy_population(3, 2), plora.PopulationSettings(epochs=1, dimensions=8))
    basis = plora.loads_basis(plora.dumps(made.basis))
    assert basis.fingerprint == made.basis.fingerprint
    (fitted,) = plora.fit(half, basis, [toys.reviews(2, 1)], plora.FitSettings(steps=2))
    assert isinstance(fitted, plora.Fitted)
    (answer,) = plora.predict(half, basis, ["the soup"], [fitted.adapter], max_new_tokens=2)
    assert 0 < answer.confidence <= 1


@pytest.mark.parametrize("source", ["/no/such/folder", "./nowhere", "no such name!"])
def test_a_model_that_is_not_there_is_said_so(source: str) -> None:
    with pytest.raises(BaseModelNotFound) as caught:
        plora.load(source)
    assert caught.value.source == source


def test_a_folder_that_is_no_model_is_said_so(tmp_path: Path, bert: Toy) -> None:
    with pytest.raises(BaseModelNotFound):
        plora.load(str(tmp_path))
    folder = saved(bert, tmp_path / "model")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BaseModelNotFound):
        plora.load(str(folder))
    weights.unlink()
    with pytest.raises(BaseModelNotFound):
        plora.load(str(folder))


def test_weights_in_pickle_are_never_read(tmp_path: Path, bert: Toy) -> None:
    folder = saved(bert, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save(bert.base.module.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(BaseModelNotFound):
        plora.load(str(folder))


def test_one_changed_weight_changes_the_fingerprint_and_the_task_head_does_not() -> None:
    module = toys.bert()
    before = plora.fingerprint(module)
    assert plora.fingerprint(toys.bert()) == before
    with torch.no_grad():
        module.classifier.weight += 1
        assert plora.fingerprint(module) == before
        module.bert.encoder.layer[1].output.dense.bias[3] += 1e-6
    assert plora.fingerprint(module) != before


def test_a_roberta_head_is_no_part_of_the_fingerprint_either() -> None:
    module = toys.roberta()
    before = plora.fingerprint(module)
    with torch.no_grad():
        module.classifier.dense.weight += 1
        module.classifier.out_proj.bias += 1
    assert plora.fingerprint(module) == before


def test_precision_is_part_of_the_fingerprint() -> None:
    assert plora.fingerprint(toys.bert().half()) != plora.fingerprint(toys.bert())


def test_texts_are_cut_to_what_the_model_can_read() -> None:
    words = toys.tokenizer(framed=True)
    assert plora.wrap(toys.bert(), words, kind=Kind.CLASSIFICATION, max_tokens=5000).max_tokens == 64
    assert plora.wrap(toys.bert(), words, kind=Kind.CLASSIFICATION, max_tokens=24).max_tokens == 24


def test_the_longest_text_a_model_reads_is_learned_from(any_toy: Toy) -> None:
    longest = plora.wrap(any_toy.base.module, any_toy.base.tokenizer, kind=any_toy.base.kind, max_tokens=5000)
    example = plora.Example("the soup was good " * 100, "like")
    (outcome,) = plora.fit(longest, any_toy.basis, [[example]], plora.FitSettings(steps=1))
    assert isinstance(outcome, plora.Fitted)
    assert len(plora.predict(longest, any_toy.basis, [example.text], [None], max_new_tokens=1)) == 1


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that ships the MiniLM, first on sys.path."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    copy = tmp_path / MINILM_PACKAGE
    shutil.copytree(spec.submodule_search_locations[0], copy)
    monkeypatch.syspath_prepend(tmp_path)
    yield copy
    shutil.rmtree(copy)


def test_the_minilm_is_taken_only_with_its_published_sha256(package: Path, minilm: plora.BaseModel) -> None:
    weights = package / "model" / "model.safetensors"
    assert plora.load(device="cpu").fingerprint == minilm.fingerprint
    with weights.open("r+b") as file:
        file.seek(1_000_003)
        (byte,) = file.read(1)
        file.seek(1_000_003)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(WrongModelFile, match=r"model\.safetensors") as caught:
        plora.load()
    assert caught.value.found != caught.value.needed


def test_a_minilm_package_without_its_weights_is_said_so(package: Path) -> None:
    (package / "model" / "model.safetensors").unlink()
    with pytest.raises(BaseModelNotFound):
        plora.load()
