"""Bytes of low-rank adapters: exact both ways, and damage is always named as such."""

import hashlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

import plora
from plora import LowRankAdapter, MalformedAdapter
from tests.plora import toys

BASE, OTHER = "ab" * 32, "cd" * 32
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
TENSORS = {
    "A.layer.0.query": torch.tensor([[1.5, -2.25, 3e-40]]),
    "B.layer.0.query": torch.tensor([[-0.0], [7.0], [0.1], [1e30]]),
    "A.layer.0.value": torch.ones(1, 3),
    "B.layer.0.value": torch.zeros(2, 1),
    "vector": torch.tensor([1.0, 2.0]),
}
USER = LowRankAdapter(BASE, OTHER, 1, 0.1, TENSORS)
BYTES = plora.dumps(USER)
META = {"format": 1, "base": BASE, "basis": OTHER, "rank": 1, "alpha": 0.1}


@given(
    names=st.tuples(HEX, HEX),
    rank=st.integers(1, 4),
    width=st.integers(1, 5),
    alpha=st.floats(-1e6, 1e6),
    data=st.data(),
)
@settings(deadline=None, max_examples=50)
def test_an_adapter_comes_back_bit_for_bit(
    names: tuple[str, str], rank: int, width: int, alpha: float, data: st.DataObject
) -> None:
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
    flat = torch.tensor(data.draw(st.lists(numbers, min_size=2 * rank * width, max_size=2 * rank * width)))
    tensors = {"A.q": flat[: rank * width].view(rank, width), "B.q": flat[rank * width :].view(width, rank)}
    user = LowRankAdapter(*names, rank, alpha, {**tensors, "vector": flat[:1]})
    back = plora.loads_low_rank(plora.dumps(user))
    assert (back.base, back.basis, back.rank, back.alpha) == (*names, rank, alpha)
    assert toys.state_hash(back.tensors) == toys.state_hash(user.tensors)
    assert plora.dumps(back) == plora.dumps(user)


def test_the_order_and_layout_of_the_tensors_are_irrelevant() -> None:
    turned = {name: value.T.contiguous().T for name, value in reversed(list(TENSORS.items())) if value.dim() == 2}
    assert plora.dumps(LowRankAdapter(BASE, OTHER, 1, 0.1, {**turned, "vector": TENSORS["vector"]})) == BYTES


def test_bytes_of_the_written_format_are_read() -> None:
    assert BYTES[:4] == b"PLR1"
    assert BYTES[4:36] == hashlib.sha256(BYTES[36:]).digest()
    assert plora.loads_low_rank(forged(META)).targets == ("layer.0.query", "layer.0.value")


@given(at=st.integers(0, len(BYTES) - 1), change=st.integers(1, 255))
@settings(deadline=None, max_examples=500)
def test_a_changed_byte_is_found(at: int, change: int) -> None:
    spoiled = bytearray(BYTES)
    spoiled[at] ^= change
    with pytest.raises(MalformedAdapter):
        plora.loads_low_rank(bytes(spoiled))


def test_every_flipped_byte_and_every_truncation_is_found() -> None:
    for at in range(len(BYTES)):
        with pytest.raises(MalformedAdapter):
            plora.loads_low_rank(BYTES[:at] + bytes([BYTES[at] ^ 0xFF]) + BYTES[at + 1 :])
        with pytest.raises(MalformedAdapter):
            plora.loads_low_rank(BYTES[:at])


@given(data=st.binary(max_size=200), magic=st.sampled_from([b"", b"PLR1", b"PLA1", BYTES]))
@settings(deadline=None)
def test_bytes_of_anything_else_are_refused(data: bytes, magic: bytes) -> None:
    with pytest.raises(MalformedAdapter):
        plora.loads_low_rank(magic + b"\x00" + data)


def test_the_kinds_of_file_are_not_taken_for_each_other() -> None:
    with pytest.raises(MalformedAdapter, match="PLA1"):
        plora.loads_adapter(BYTES)
    with pytest.raises(MalformedAdapter, match="PLR1"):
        plora.loads_low_rank(plora.dumps(plora.Adapter(BASE, OTHER, torch.ones(3))))


def sealed(body: bytes) -> bytes:
    """A file whose digest is right, whatever is in it."""
    return b"PLR1" + hashlib.sha256(body).digest() + body


def forged(meta: object, tensors: dict[str, Tensor] | None = None) -> bytes:
    return sealed(save(dict(TENSORS if tensors is None else tensors), {"plora": json.dumps(meta)}))


@given(at=st.integers(36, len(BYTES) - 1), spoil=st.binary(max_size=6), drop=st.integers(0, 6))
@settings(deadline=None, max_examples=400)
def test_a_forgery_with_a_right_digest_loads_whole_or_is_refused(at: int, spoil: bytes, drop: int) -> None:
    try:
        user = plora.loads_low_rank(sealed(BYTES[36:at] + spoil + BYTES[at + drop :]))
    except MalformedAdapter:
        return
    back = plora.loads_low_rank(plora.dumps(user))
    assert toys.state_hash(back.tensors) == toys.state_hash(user.tensors)


@pytest.mark.parametrize(
    "meta",
    [
        [],
        None,
        "text",
        {},
        {**META, "format": 2},
        {**META, "rank": 0},
        {**META, "rank": 2},
        {**META, "rank": True},
        {**META, "rank": 1.0},
        {**META, "rank": "one"},
        {**META, "alpha": "much"},
        {**META, "alpha": float("nan")},
        {**META, "alpha": float("inf")},
        {**META, "alpha": 10**400},
        {**META, "base": "ab"},
        {**META, "base": "AB" * 32},
        {**META, "basis": 7},
        {key: value for key, value in META.items() if key != "basis"},
    ],
    ids=lambda meta: str(meta)[:60],
)
def test_strange_facts_are_refused(meta: object) -> None:
    with pytest.raises(MalformedAdapter):
        plora.loads_low_rank(forged(meta))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("A.layer.0.query", torch.zeros(2, 3)),
        ("A.layer.0.query", torch.zeros(3)),
        ("A.layer.0.query", torch.zeros(1, 0)),
        ("B.layer.0.query", torch.zeros(4, 2)),
        ("B.layer.0.value", torch.zeros(2, 1, dtype=torch.float16)),
        ("B.layer.0.value", torch.full((2, 1), torch.nan)),
        ("vector", torch.zeros(())),
        ("vector", torch.tensor([torch.inf])),
    ],
)
def test_a_tensor_that_cannot_be_is_named(name: str, value: Tensor) -> None:
    with pytest.raises(MalformedAdapter) as caught:
        plora.loads_low_rank(forged(META, {**TENSORS, name: value}))
    assert caught.value.check == name


def test_missing_and_surplus_tensors_are_refused() -> None:
    for tensors in ({}, {**TENSORS, "surplus": torch.ones(1)}, {k: v for k, v in TENSORS.items() if k != "vector"}):
        with pytest.raises(MalformedAdapter, match="tensors"):
            plora.loads_low_rank(forged(META, tensors))
