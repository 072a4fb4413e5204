"""Directories that must not come in: each is refused by a typed error, before a tensor is made of it."""

import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from plora import AdapterRejected, BaseModel, PLoRAError
from plora.interop import NotRepresentable, import_peft
from plora.tensorfile import MAX_HEADER_BYTES
from tests.plora import toys
from tests.plora.interop import stages

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FIRST = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
SECOND = FIRST.replace("lora_A", "lora_B")


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return stages.base_of(toys.bert())


@pytest.fixture(scope="module")
def sound(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = stages.peft_lora(base, tmp_path_factory.mktemp("sound") / "lora", r=4, lora_alpha=8)
    import_peft(path, base)
    return path


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "lora"))


def configured(folder: Path, **options: object) -> None:
    told = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(told | options))


def changed(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def refused(folder: Path, base: BaseModel) -> str:
    """The code or the option."""
    with pytest.raises((AdapterRejected, NotRepresentable)) as error:
        import_peft(folder, base)
    return error.value.code if isinstance(error.value, AdapterRejected) else error.value.option


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("use_dora", True),
        ("use_qalora", True),
        ("use_bdlora", {"target_modules_bd_a": []}),
        ("loftq_config", {"loftq_bits": 4}),
        ("corda_config", {"corda_method": "ipm"}),
        ("lora_ga_config", {"direction": "ArBr"}),
        ("alora_invocation_tokens", [1, 2]),
        ("arrow_config", {"top_k": 1}),
        ("kasa_config", {"beta": 1.0}),
        ("monteclora_config", {"use_monteclora": True}),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("trainable_token_indices", [1]),
        ("target_parameters", ["bert.experts"]),
        ("megatron_config", {"x": 1}),
        ("bias", "all"),
        ("bias", "lora_only"),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", 1),
        ("peft_type", "IA3"),
        ("peft_type", ["LORA"]),
        ("target_modules", r".*\.(query|value)"),
        ("target_modules", "(a+)+$"),
        ("exclude_modules", "(a+)+$"),
        ("modules_to_save", ["embeddings"]),
        ("rank_pattern", {"(a+)+": 4}),
        ("alpha_pattern", {".*": 4}),
    ],
)
def test_options_that_change_what_is_computed_are_refused_by_name(
    folder: Path, base: BaseModel, option: str, value: object
) -> None:
    configured(folder, **{option: value})
    assert refused(folder, base) == option


def test_an_option_that_nobody_here_knows_is_refused_without_its_name(folder: Path, base: BaseModel) -> None:
    configured(folder, secret_of_tomorrow={"on": True})
    assert refused(folder, base) == "unknown"
    configured(folder, secret_of_tomorrow=None)
    import_peft(folder, base)


@pytest.mark.parametrize(
    "facts",
    [
        {"r": 0},
        {"r": -4},
        {"r": "4"},
        {"r": True},
        {"r": 10**9},
        {"lora_alpha": "8"},
        {"lora_alpha": 1e300},
        {"use_rslora": "yes"},
        {"rank_pattern": [4]},
        {"rank_pattern": {"query": 0}},
        {"alpha_pattern": {"query": "8"}},
        {"target_modules": [1, 2]},
        {"target_modules": {"query": 1}},
        {"layers_to_transform": ["0"]},
    ],
)
def test_facts_that_are_none_are_refused(folder: Path, base: BaseModel, facts: dict[str, object]) -> None:
    configured(folder, **facts)
    assert refused(folder, base) == "config_facts"


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b"\xff\xfe", b'{"r": NaN}', b"[" * 60_000, b'{"r": 4, "r": 8, "peft_type": "LORA"}']
)
def test_a_configuration_that_is_no_json_object_is_refused(folder: Path, base: BaseModel, text: bytes) -> None:
    (folder / CONFIG).write_bytes(text)
    assert refused(folder, base) in ("config_json", "duplicate_name")


def test_a_configuration_of_a_hundred_megabytes_is_not_even_read(folder: Path, base: BaseModel) -> None:
    with (folder / CONFIG).open("wb") as file:
        file.truncate(100 << 20)
    assert refused(folder, base) == "too_large"


@pytest.mark.parametrize("name", ["adapter_model.bin", "x.pt", "x.PKL", "x.ckpt", "x.npz"])
def test_a_file_that_may_run_code_is_refused_wherever_it_lies(folder: Path, base: BaseModel, name: str) -> None:
    (folder / name).write_bytes(b"")
    assert refused(folder, base) == "pickle"


def test_no_pickle_is_ever_opened(folder: Path, base: BaseModel) -> None:
    seen: list[str] = []
    sys.addaudithook(lambda event, _: seen.append(event) if event == "pickle.find_class" else None)
    torch.save({"a": torch.ones(1)}, folder / "other")
    (folder / "other").replace(folder / WEIGHTS)
    assert refused(folder, base) == "archive"
    (folder / WEIGHTS).write_bytes(b"\x80\x04cos\nsystem\n(S'echo'\ntR.")
    assert refused(folder, base) == "pickle"
    assert not seen


def test_missing_and_strange_files_are_refused(folder: Path, base: BaseModel, tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere", base) == "unreadable"
    (folder / WEIGHTS).unlink()
    assert refused(folder, base) == "unreadable"
    os.mkfifo(folder / WEIGHTS)
    assert refused(folder, base) == "unreadable"
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert refused(folder, base) == "unreadable"


def test_a_header_of_a_hundred_megabytes_is_refused_at_once(folder: Path, base: BaseModel) -> None:
    header = b"{" + b" " * (15 << 20)
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)
    start = time.perf_counter()
    assert refused(folder, base) == "header_length"
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 100 << 20) + b"{}")
    assert refused(folder, base) == "header_length"
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", 100 << 20))
        file.truncate(101 << 20)
    assert refused(folder, base) == "too_large"
    assert time.perf_counter() - start < 2
    assert MAX_HEADER_BYTES == 256 << 10


def test_every_truncation_is_refused(folder: Path, base: BaseModel) -> None:
    data = (folder / WEIGHTS).read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        (folder / WEIGHTS).write_bytes(data[:length])
        assert refused(folder, base) in ("truncated", "header_length", "header_json", "offsets", "size")
    (folder / WEIGHTS).write_bytes(data + b"\0")
    assert refused(folder, base) == "size"


def test_numbers_that_are_none_are_refused(folder: Path, base: BaseModel) -> None:
    for bad, code in ((torch.nan, "not_finite"), (torch.inf, "not_finite"), (1e5, "magnitude")):
        changed(folder, lambda tensors, bad=bad: tensors[FIRST].__setitem__((0, 0), bad))
        assert refused(folder, base) == code


def test_tensors_that_peft_would_not_use_are_refused(folder: Path, base: BaseModel, sound: Path) -> None:
    for name, code in (
        ("stranger", "extra_keys"),
        ("base_model.model.bert.pooler.dense.weight", "extra_keys"),
        ("base_model.model.classifier.weight", "extra_keys"),
        (FIRST.replace("query", "key"), "extra_keys"),
        (FIRST.replace("layer.0", "layer.9"), "wrong_base"),
        (FIRST.replace("lora_A.weight", "lora_magnitude_vector"), "use_dora"),
        (FIRST.replace("lora_A.weight", "lora_embedding_A"), "embedding"),
        (SECOND.replace("weight", "bias"), "tensor_names"),
    ):
        shutil.copy(sound / WEIGHTS, folder / WEIGHTS)
        changed(folder, lambda tensors, name=name: tensors.update({name: torch.ones(4, 32)}))
        assert refused(folder, base) == code, name


def test_tensors_that_are_missing_or_misshapen_are_refused(folder: Path, base: BaseModel, sound: Path) -> None:
    def take(tensors: dict[str, Tensor]) -> None:
        del tensors[SECOND]

    def reshape(tensors: dict[str, Tensor]) -> None:
        tensors[FIRST] = torch.ones(4, 31)

    def rank(tensors: dict[str, Tensor]) -> None:
        tensors[FIRST], tensors[SECOND] = torch.ones(5, 32), torch.ones(32, 5)

    def whole(tensors: dict[str, Tensor]) -> None:
        tensors[FIRST] = torch.ones(4, 32, dtype=torch.int8)

    def nothing(tensors: dict[str, Tensor]) -> None:
        tensors.clear()

    for change, code in (
        (take, "tensor_names"),
        (reshape, "shape"),
        (rank, "shape"),
        (whole, "dtype"),
        (nothing, "no_targets"),
    ):
        shutil.copy(sound / WEIGHTS, folder / WEIGHTS)
        changed(folder, change)
        assert refused(folder, base) == code


def test_half_precision_files_are_read_as_they_are(folder: Path, base: BaseModel) -> None:
    changed(folder, lambda tensors: tensors.update({name: value.half() for name, value in tensors.items()}))
    found = import_peft(folder, base)
    stages.near(stages.ours(base, found.basis, [found.user] * 4), stages.logits(stages.peft_of(base, folder)))


def test_a_lora_for_a_wider_or_deeper_model_is_refused(folder: Path, tmp_path: Path) -> None:
    shallow = stages.base_of(toys.bert(layers=1))
    assert refused(folder, shallow) == "wrong_base"
    assert refused(folder, stages.base_of(toys.roberta())) == "wrong_base"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_done_to_the_bytes_only_typed_errors_come_out(
    folder: Path, base: BaseModel, sound: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([CONFIG, WEIGHTS]))
    shutil.copy(sound / CONFIG, folder / CONFIG)
    shutil.copy(sound / WEIGHTS, folder / WEIGHTS)
    raw = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(raw) - 1, 1200)))
        raw[at] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(bytes(raw))
    with suppress(PLoRAError):
        found = import_peft(folder, base)
        assert found.user.targets
