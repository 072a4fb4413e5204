"""The import gate: what comes in is whole, of its kind, made for its place, finite and mild; the rest has a code."""

import hashlib
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import save

import plora
from plora import Adapter, AdapterRejected, Basis, BasisSpec, Kind, LowRankAdapter, Statistics
from plora.gate import MAX_BYTES, Expected, FileKind, check, check_basis
from plora.tensorfile import MAX_HEADER_BYTES

BASE, OTHER = "ab" * 32, "cd" * 32
SHAPES = {f"m.{at}.lora_{letter}.weight": (4, 16) if letter == "A" else (16, 4) for at in range(3) for letter in "AB"}


def small_basis(**changes: torch.Tensor) -> Basis:
    torch.manual_seed(0)
    shapes = {"A.q": (2, 6), "B.q": (5, 2), "P.q": (2, 4), "head.weight": (2, 6), "head.bias": (2,), "prior.mean": (4,)}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    return Basis(BasisSpec(BASE, Kind.CLASSIFICATION, ("no", "yes"), ("q",), 2, 4.0, 4), {**tensors, **changes})


def plain(**changes: object) -> bytes:
    draw = np.random.default_rng(0)
    tensors = {name: draw.standard_normal(shape).astype(np.float32) * 0.02 for name, shape in SHAPES.items()}
    return save({**tensors, **changes}, {"format": "pt"})


BASIS = small_basis()
FILES: dict[FileKind, bytes] = {
    FileKind.ADAPTER: plora.dumps(Adapter(BASE, BASIS.fingerprint, torch.tensor([1.5, -2.25, 0.0, 3e-40]))),
    FileKind.STATISTICS: plora.dumps(
        Statistics(BASE, BASIS.fingerprint, 1.0, 9, 2.5, torch.ones(4), torch.zeros(4), torch.eye(4))
    ),
    FileKind.BASIS: plora.dumps(BASIS),
    FileKind.LOW_RANK: plora.dumps(
        LowRankAdapter(
            *(BASE, BASIS.fingerprint, 2, 4.0),
            {"A.q": torch.ones(2, 6), "B.q": torch.ones(5, 2), "vector": torch.zeros(4)},
        )
    ),
    FileKind.TENSORS: plain(),
}
PLACE = Expected(base=BASE, basis=BASIS.fingerprint, fingerprint=BASIS.fingerprint, dimensions=4, shapes=SHAPES)


def code_of(kind: FileKind, data: bytes, expected: Expected = PLACE) -> str:
    with pytest.raises(AdapterRejected) as caught:
        check(kind, data, expected)
    return caught.value.code


@pytest.mark.parametrize("kind", FileKind)
def test_a_good_file_of_every_kind_comes_in(kind: FileKind) -> None:
    check(kind, FILES[kind], PLACE)
    check(kind, FILES[kind], Expected(shapes=SHAPES))


@pytest.mark.parametrize("kind", FileKind)
def test_no_kind_of_file_is_taken_for_another(kind: FileKind) -> None:
    for other in FileKind:
        if other is not kind:
            assert code_of(kind, FILES[other]) in {"format", "header_length", "metadata", "tensor_names"}


def test_the_gate_says_what_a_basis_is_for() -> None:
    spec = check_basis(FILES[FileKind.BASIS], PLACE)
    assert (spec.base, spec.dimensions) == (BASE, 4)


@pytest.mark.parametrize(
    ("kind", "expected", "code"),
    [
        (FileKind.ADAPTER, Expected(base=OTHER), "wrong_base"),
        (FileKind.ADAPTER, Expected(basis=OTHER), "wrong_basis"),
        (FileKind.ADAPTER, Expected(dimensions=5), "dimensions"),
        (FileKind.ADAPTER, Expected(most=2.0), "magnitude"),
        (FileKind.STATISTICS, Expected(base=OTHER), "wrong_base"),
        (FileKind.STATISTICS, Expected(basis=OTHER), "wrong_basis"),
        (FileKind.STATISTICS, Expected(dimensions=3), "dimensions"),
        (FileKind.BASIS, Expected(base=OTHER), "wrong_base"),
        (FileKind.BASIS, Expected(fingerprint=OTHER), "wrong_fingerprint"),
        (FileKind.BASIS, Expected(most=0.1), "magnitude"),
        (FileKind.BASIS, Expected(most_norm=0.1), "norm"),
        (FileKind.LOW_RANK, Expected(base=OTHER), "wrong_base"),
        (FileKind.LOW_RANK, Expected(basis=OTHER), "wrong_basis"),
        (FileKind.LOW_RANK, Expected(dimensions=3), "dimensions"),
        (FileKind.LOW_RANK, Expected(most_norm=21.9), "norm"),  # 2 x |ones (5, 2) ones (2, 6)| = 2 sqrt(120) = 21.91
        (FileKind.TENSORS, Expected(), "tensor_names"),
        (FileKind.TENSORS, Expected(shapes={**SHAPES, "m.0.lora_A.weight": (16, 4)}), "shape"),
        (FileKind.TENSORS, Expected(shapes=SHAPES, most=0.01), "magnitude"),
        (FileKind.TENSORS, Expected(shapes=SHAPES, most_norm=0.001), "norm"),
    ],
)
def test_a_file_made_for_another_place_is_refused(kind: FileKind, expected: Expected, code: str) -> None:
    assert code_of(kind, FILES[kind], expected) == code


def test_the_norm_is_the_spectral_norm_of_the_product() -> None:
    check(FileKind.LOW_RANK, FILES[FileKind.LOW_RANK], Expected(most_norm=21.92))
    A, B = BASIS.tensors["A.q"], BASIS.tensors["B.q"]
    norm = float(torch.linalg.matrix_norm(BASIS.spec.scale * B @ A, 2))
    check(FileKind.BASIS, FILES[FileKind.BASIS], Expected(most_norm=norm * 1.001))
    assert code_of(FileKind.BASIS, FILES[FileKind.BASIS], Expected(most_norm=norm * 0.999)) == "norm"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (np.full((4, 16), np.nan, np.float32), "not_finite"),
        (np.full((4, 16), np.inf, np.float32), "not_finite"),
        (np.full((4, 16), 2e4, np.float32), "magnitude"),
        (np.zeros((4, 16), np.float64), "dtype"),
        (np.zeros((4, 16), np.int32), "dtype"),
        (np.zeros((1, 4, 16), np.float32), "shape"),
        (np.zeros(64, np.float32), "shape"),
    ],
)
def test_numbers_that_no_training_makes_are_refused(change: object, code: str) -> None:
    assert code_of(FileKind.TENSORS, plain(**{"m.0.lora_A.weight": change})) == code


def test_half_precision_is_read_as_what_it_says() -> None:
    half = {name: torch.full(shape, 300.0) for name, shape in SHAPES.items()}
    from safetensors.torch import save as save_torch  # noqa: PLC0415

    for dtype in (torch.float16, torch.bfloat16):
        data = save_torch({name: value.to(dtype) for name, value in half.items()})
        check(FileKind.TENSORS, data, Expected(shapes=SHAPES, most=300, most_norm=1e9))
        assert code_of(FileKind.TENSORS, data, Expected(shapes=SHAPES, most=299, most_norm=1e9)) == "magnitude"


def header(told: object, numbers: bytes = b"") -> bytes:
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text + numbers


A_TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated"),
        (header(b"{}")[:9], "truncated"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + bytes(MAX_HEADER_BYTES + 100), "header_length"),
        (struct.pack("<Q", 1 << 63) + b"{}", "header_length"),
        (header(b" {}"), "header_start"),
        (header(b"{" * 20_000), "header_nesting"),
        (header(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}"), "header_json"),
        (header(b"{\xff}"), "header_json"),
        (header(b'{"a": NaN}'), "header_json"),
        (header(b'{"a": ' + b"9" * 5_000 + b"}"), "header_json"),
        (header(b'{"a": {}, "a": {}}'), "duplicate_name"),
        (header(b'{"__metadata__": {"a": "1", "a": "2"}}'), "duplicate_name"),
        (header({"__metadata__": []}), "metadata"),
        (header({"__metadata__": {"a": 1}}), "metadata"),
        (header({"__metadata__": {"a": "x" * 1025}}), "metadata"),
        (header({"__metadata__": {str(at): "" for at in range(33)}}), "metadata"),
        (header({"a": []}), "tensor_fields"),
        (header({"a": {**A_TENSOR, "more": 1}}, bytes(4)), "tensor_fields"),
        (header({"a" * 257: A_TENSOR}, bytes(4)), "tensor_fields"),
        (header({"a": {**A_TENSOR, "dtype": "U8"}}, bytes(4)), "dtype"),
        (header({"a": {**A_TENSOR, "dtype": None}}, bytes(4)), "dtype"),
        (header({"a": {**A_TENSOR, "shape": [True]}}, bytes(4)), "shape"),
        (header({"a": {**A_TENSOR, "shape": [1.0]}}, bytes(4)), "shape"),
        (header({"a": {**A_TENSOR, "shape": [-1]}}, bytes(4)), "shape"),
        (header({"a": {**A_TENSOR, "shape": [1] * 4}}, bytes(4)), "shape"),
        (header({"a": {**A_TENSOR, "shape": [0, 2**62]}}, bytes(4)), "offsets"),
        (header({"a": {**A_TENSOR, "shape": [2**62, 2**62]}}, bytes(4)), "offsets"),
        (header({"a": {**A_TENSOR, "data_offsets": [4, 8]}}, bytes(8)), "offsets"),
        (header({"a": {**A_TENSOR, "data_offsets": [4, 0]}}, bytes(4)), "offsets"),
        (header({"a": A_TENSOR, "b": A_TENSOR}, bytes(4)), "offsets"),
        (header({"a": A_TENSOR}, bytes(5)), "size"),
        (header({"a": A_TENSOR}, bytes(3)), "size"),
        (header({"../../etc/passwd": A_TENSOR}, bytes(4)), "tensor_names"),
        (bytes(MAX_BYTES[FileKind.TENSORS] + 1), "too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_a_header_that_is_not_in_order_is_refused(data: bytes, code: str) -> None:
    assert code_of(FileKind.TENSORS, data) == code


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (b"PK\x03\x04", "archive"),
        (b"\x1f\x8b\x08", "archive"),
        (b"\x80\x04\x95", "pickle"),
        (b"cos\nsystem\n", "pickle"),
        (b"\x89HDF\r\n\x1a\n", "hdf5"),
        (b"GGUF\x03", "gguf"),
        (b"\x93NUMPY\x01", "numpy"),
    ],
)
@pytest.mark.parametrize("kind", FileKind)
def test_formats_that_may_run_code_are_refused_by_their_first_bytes(kind: FileKind, start: bytes, code: str) -> None:
    assert code_of(kind, start + b"\x01" * 600) == code
    tar = b"\x01" * 257 + b"ustar" + bytes(600)
    assert code_of(kind, tar) == "archive"


def test_our_own_files_name_only_what_they_should() -> None:
    def forged(note: object) -> bytes:
        body = save({"vector": np.zeros(4, np.float32)}, {"plora": json.dumps(note), "more": "x"})
        return b"PLR1" + hashlib.sha256(body).digest() + body

    assert code_of(FileKind.LOW_RANK, forged({})) == "metadata"


def test_the_gate_is_loaded_without_torch() -> None:
    script = """
import sys
from daemon.gate_child import load_gate
gate = load_gate()
gate.warm()
assert not {"torch", "safetensors", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
