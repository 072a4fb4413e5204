"""Bytes of adapters and bases: exact both ways, the same for the same value, and damage is always named as such."""

import hashlib
import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

import plora
from plora import Adapter, Basis, BasisSpec, Kind, MalformedAdapter, MalformedBasis
from tests.plora import toys
from tests.plora.conftest import Toy

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=40)
BASE, OTHER = "ab" * 32, "cd" * 32


def small_basis() -> Basis:
    spec = BasisSpec(BASE, Kind.CLASSIFICATION, ("no", "はい"), ("layer.0.query",), 1, 2.0, 2)
    return toys.loud(
        Basis(
            spec,
            {
                "A.layer.0.query": torch.zeros(1, 3),
                "B.layer.0.query": torch.zeros(4, 1),
                "P.layer.0.query": torch.zeros(1, 2),
                "head.weight": torch.zeros(2, 3),
                "head.bias": torch.zeros(2),
                "prior.mean": torch.zeros(2),
            },
        )
    )


ADAPTER = Adapter(BASE, OTHER, torch.tensor([1.5, -2.25, 0.0, 3e-40]))
ADAPTER_BYTES = plora.dumps(ADAPTER)
BASIS_BYTES = plora.dumps(small_basis())


@given(base=HEX, basis=HEX, numbers=FLOATS)
@settings(deadline=None)
def test_an_adapter_comes_back_bit_for_bit(base: str, basis: str, numbers: list[float]) -> None:
    adapter = Adapter(base, basis, torch.tensor(numbers, dtype=torch.float32))
    data = plora.dumps(adapter)
    back = plora.loads_adapter(data)
    assert (back.base, back.basis) == (base, basis)
    assert torch.equal(back.vector.view(torch.int32), adapter.vector.view(torch.int32))
    assert plora.dumps(back) == data


def test_an_adapters_bytes_are_those_of_the_written_format() -> None:
    body = struct.pack("<4sHH32s32s4f", b"PLA1", 4, 0, b"\xab" * 32, b"\xcd" * 32, 1.5, -2.25, 0.0, 3e-40)
    assert body + hashlib.sha256(body).digest() == ADAPTER_BYTES


def test_bytes_written_by_the_first_release_are_still_read() -> None:
    frozen = bytes.fromhex(
        "504c413102000000" + "ab" * 32 + "cd" * 32 + "0000c03f000010c0"
        "7197ebe878ba533cc821dbbe51cbd69686e321a1f8417d9df295aeae9dbc56d4"
    )
    assert plora.loads_adapter(frozen).vector.tolist() == [1.5, -2.25]


@pytest.mark.parametrize(("dimensions", "limit"), [(512, 2200), (16, 200), (1, 108)])
def test_an_adapter_is_small(dimensions: int, limit: int) -> None:
    data = plora.dumps(Adapter(BASE, OTHER, torch.zeros(dimensions)))
    assert len(data) == 104 + 4 * dimensions <= limit


def test_a_basis_comes_back_bit_for_bit(any_toy: Toy) -> None:
    data = plora.dumps(any_toy.basis)
    back = plora.loads_basis(data)
    assert back.spec == any_toy.basis.spec
    assert back.fingerprint == any_toy.basis.fingerprint
    assert toys.state_hash(back.tensors) == toys.state_hash(any_toy.basis.tensors)
    assert plora.dumps(back) == data


def test_the_same_basis_gives_the_same_bytes_whatever_the_order_of_its_tensors() -> None:
    basis = small_basis()
    backwards = Basis(basis.spec, dict(reversed(list(basis.tensors.items()))))
    assert plora.dumps(backwards) == BASIS_BYTES
    assert backwards.fingerprint == basis.fingerprint


def test_every_part_of_a_basis_is_in_its_fingerprint() -> None:
    basis = small_basis()
    found = {basis.fingerprint}
    for name, value in basis.tensors.items():
        found.add(Basis(basis.spec, {**basis.tensors, name: value + 1}).fingerprint)
    for labels, alpha in ((("はい", "no"), 2.0), (("no", "はい"), 4.0)):
        spec = BasisSpec(BASE, Kind.CLASSIFICATION, labels, basis.spec.targets, 1, alpha, 2)
        found.add(Basis(spec, basis.tensors).fingerprint)
    assert len(found) == 1 + len(basis.tensors) + 2


@given(at=st.integers(0, len(ADAPTER_BYTES) * 8 - 1))
@settings(deadline=None, max_examples=300)
def test_a_flipped_bit_of_an_adapter_is_found(at: int) -> None:
    with pytest.raises(MalformedAdapter):
        plora.loads_adapter(flipped(ADAPTER_BYTES, at))


@given(at=st.integers(0, len(BASIS_BYTES) * 8 - 1))
@settings(deadline=None, max_examples=300)
def test_a_flipped_bit_of_a_basis_is_found(at: int) -> None:
    with pytest.raises(MalformedBasis):
        plora.loads_basis(flipped(BASIS_BYTES, at))


def flipped(data: bytes, bit: int) -> bytes:
    spoiled = bytearray(data)
    spoiled[bit // 8] ^= 1 << bit % 8
    return bytes(spoiled)


def test_every_truncation_is_found() -> None:
    for length in range(len(ADAPTER_BYTES)):
        with pytest.raises(MalformedAdapter):
            plora.loads_adapter(ADAPTER_BYTES[:length])
    for length in range(len(BASIS_BYTES)):
        with pytest.raises(MalformedBasis):
            plora.loads_basis(BASIS_BYTES[:length])


@given(tail=st.binary(min_size=1, max_size=40))
def test_anything_appended_is_found(tail: bytes) -> None:
    with pytest.raises(MalformedAdapter):
        plora.loads_adapter(ADAPTER_BYTES + tail)
    with pytest.raises(MalformedBasis):
        plora.loads_basis(BASIS_BYTES + tail)


@given(data=st.binary(max_size=200), magic=st.sampled_from([b"", b"PLA1", b"PLB1"]))
def test_bytes_of_anything_else_are_refused(data: bytes, magic: bytes) -> None:
    with pytest.raises(MalformedAdapter):
        plora.loads_adapter(magic + data)
    with pytest.raises(MalformedBasis):
        plora.loads_basis(magic + data)


def sealed_basis(body: bytes) -> bytes:
    """A file whose digest is right, whatever is in it."""
    return b"PLB1" + hashlib.sha256(body).digest() + body


@given(
    at=st.integers(36, len(BASIS_BYTES) - 1),
    spoil=st.binary(min_size=0, max_size=6),
    drop=st.integers(0, 6),
)
@settings(deadline=None, max_examples=400)
def test_a_forged_basis_with_a_right_digest_loads_whole_or_is_refused(at: int, spoil: bytes, drop: int) -> None:
    body = BASIS_BYTES[36:at] + spoil + BASIS_BYTES[at + drop :]
    try:
        basis = plora.loads_basis(sealed_basis(body))
    except MalformedBasis:
        return
    assert plora.loads_basis(plora.dumps(basis)).fingerprint == basis.fingerprint


META = json.loads(
    json.loads(BASIS_BYTES[44 : 44 + int.from_bytes(BASIS_BYTES[36:44], "little")])["__metadata__"]["plora"]
)


def forged(meta: object, tensors: dict[str, Tensor] | None = None) -> bytes:
    return sealed_basis(save(dict(tensors or small_basis().tensors), {"plora": json.dumps(meta)}))


@pytest.mark.parametrize(
    "meta",
    [
        [],
        "text",
        None,
        {},
        {**META, "format": 2},
        {**META, "rank": 0},
        {**META, "rank": "many"},
        {**META, "rank": None},
        {**META, "dimensions": 10**6},
        {**META, "alpha": float("nan")},
        {**META, "alpha": float("inf")},
        {**META, "kind": "oracle"},
        {**META, "kind": ["classification"]},
        {**META, "kind": "causal-lm"},
        {**META, "labels": "no"},
        {**META, "labels": ["no", "no"]},
        {**META, "targets": {"layer": 1}},
        {**META, "targets": ["layer.9.query"]},
        {key: value for key, value in META.items() if key != "base"},
    ],
    ids=str,
)
def test_a_basis_of_strange_facts_is_refused(meta: object) -> None:
    with pytest.raises(MalformedBasis):
        plora.loads_basis(forged(meta))


def test_a_basis_of_a_later_format_is_named_as_such() -> None:
    with pytest.raises(MalformedBasis, match="version 2"):
        plora.loads_basis(forged({**META, "format": 2}))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("A.layer.0.query", (2, 3)),
        ("A.layer.0.query", (1,)),
        ("A.layer.0.query", (1, 3, 1)),
        ("A.layer.0.query", ()),
        ("B.layer.0.query", (4, 2)),
        ("B.layer.0.query", (4,)),
        ("P.layer.0.query", (1, 3)),
        ("P.layer.0.query", (2,)),
        ("prior.mean", (3,)),
        ("prior.mean", (1, 2)),
    ],
)
def test_a_tensor_of_the_wrong_shape_is_named(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(MalformedBasis) as caught:
        plora.loads_basis(forged(META, {**small_basis().tensors, name: torch.zeros(shape)}))
    assert caught.value.check == name
    assert str(shape) in str(caught.value)


def test_missing_surplus_wrongly_typed_and_infinite_tensors_are_named() -> None:
    tensors = dict(small_basis().tensors)
    query = "layer.0.query"
    for changed, name in (
        ({key: value for key, value in tensors.items() if key != f"P.{query}"}, f"P.{query}"),
        ({**tensors, "Q.surplus": torch.zeros(1)}, "Q.surplus"),
        ({**tensors, f"A.{query}": torch.zeros(1, 3, dtype=torch.float16)}, f"A.{query}"),
        ({**tensors, f"B.{query}": torch.full((4, 1), torch.inf)}, f"B.{query}"),
        ({**tensors, "head.bias": torch.full((2,), torch.nan)}, "head.bias"),
    ):
        with pytest.raises(MalformedBasis, match=name):
            plora.loads_basis(forged(META, changed))
    with pytest.raises(MalformedBasis, match="head"):
        plora.loads_basis(forged(META, {key: value for key, value in tensors.items() if not key.startswith("head.")}))


def test_an_adapter_file_of_nonsense_numbers_is_refused_though_its_digest_is_right() -> None:
    for number in (float("nan"), float("inf")):
        body = struct.pack("<4sHH32s32sf", b"PLA1", 1, 0, bytes(32), bytes(32), number)
        with pytest.raises(MalformedAdapter, match="not finite"):
            plora.loads_adapter(body + hashlib.sha256(body).digest())
    for d, reserved in ((0, 0), (1, 7)):
        body = struct.pack("<4sHH32s32sf", b"PLA1", d, reserved, bytes(32), bytes(32), 1.0)
        with pytest.raises(MalformedAdapter, match="header"):
            plora.loads_adapter(body + hashlib.sha256(body).digest())


def test_the_two_kinds_of_file_are_not_taken_for_each_other() -> None:
    with pytest.raises(MalformedAdapter, match="PLA1"):
        plora.loads_adapter(BASIS_BYTES)
    with pytest.raises(MalformedBasis, match="PLB1"):
        plora.loads_basis(ADAPTER_BYTES)


def test_no_bytes_are_pickled() -> None:
    for data in (ADAPTER_BYTES, BASIS_BYTES):
        assert not data.startswith(b"\x80")
        assert b"torch" not in data
