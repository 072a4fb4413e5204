"""The import gate: every file that comes in, from outside or from our own trainers, passes it before it is used.

It imports no torch and unpickles nothing, so that it can run in a small process of its own. What a file is worth it
cannot tell: only that it is whole, of the kind it should be, made for this base model and Basis, finite, and not so
large in its numbers that no training would have made it. Only AdapterRejected comes out.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from . import files
from .errors import AdapterRejected
from .spec import BasisSpec
from .tensorfile import Floats, read_json, read_tensors


class FileKind(Enum):
    """What a file should be. TENSORS is a plain safetensors file of tensors that are known by name and shape."""

    ADAPTER = "adapter"
    STATISTICS = "statistics"
    BASIS = "basis"
    LOW_RANK = "low_rank"
    TENSORS = "tensors"


MAX_BYTES: Mapping[FileKind, int] = {
    FileKind.ADAPTER: 16 << 20,
    FileKind.STATISTICS: 48 << 20,  # 4,096 dimensions, the most that a Basis may have, are 34 MB
    FileKind.BASIS: 256 << 20,
    FileKind.LOW_RANK: 16 << 20,
    FileKind.TENSORS: 16 << 20,
}

FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "archive"),  # zip: .pt, .npz, and what hides in them
    (b"PK\x05\x06", "archive"),
    (b"\x1f\x8b", "archive"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"GGUF", "gguf"),
    (b"\x93NUMPY", "numpy"),
    *((bytes((0x80, protocol)), "pickle") for protocol in range(1, 10)),
    *((start, "pickle") for start in (b"c", b"(", b"]", b"}", b"\x8c", b"I", b"V", b"S", b"X", b"N.")),  # protocol 0
)
"""First bytes of formats that may run code or that we do not read, with the code they are refused by."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file must be made for, where that is known, and what its numbers may be.

    `fingerprint` is that of a Basis, `dimensions` is the length of a user vector; `shapes` are those of a TENSORS file,
    all of them. `most` bounds every number of an adapter or a Basis, `most_norm` the spectral norm of scale x B A.
    """

    base: str | None = None
    basis: str | None = None
    fingerprint: str | None = None
    dimensions: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    most: float = 1e4
    most_norm: float = 1e4


def check(kind: FileKind, data: bytes, expected: Expected) -> None:
    """Raise AdapterRejected unless `data` is a file of this kind as it is expected."""
    check_size(kind, len(data))
    if kind is not FileKind.TENSORS or not data[:8].endswith(b"\0\0\0\0"):  # else a header's length, not a format
        refuse_foreign(data)
    CHECKS[kind](data, expected)


def check_size(kind: FileKind, size_bytes: int) -> None:
    """Raise AdapterRejected for what is too large to be looked at."""
    if size_bytes > MAX_BYTES[kind]:
        raise AdapterRejected("too_large")


def refuse_foreign(data: bytes) -> None:
    """Raise AdapterRejected, with a code of its own, for a format that may run code or that we do not read."""
    for start, code in FOREIGN:
        if data.startswith(start):
            raise AdapterRejected(code)
    if data[257:262] == b"ustar":
        raise AdapterRejected("archive")


def _adapter(data: bytes, expected: Expected) -> None:
    file = files.read_adapter(data)
    _belongs(file.base, file.basis, expected)
    _long_enough(len(file.vector), expected)
    _bounded({"vector": file.vector}, expected)


def _statistics(data: bytes, expected: Expected) -> None:
    """Sums over examples have no bound of their own."""
    file = files.read_statistics(data)
    _belongs(file.base, file.basis, expected)
    _long_enough(file.dimensions, expected)


def check_basis(data: bytes, expected: Expected) -> BasisSpec:
    """What the Basis says of itself, after all that `check` does. Raises AdapterRejected."""
    check_size(FileKind.BASIS, len(data))
    refuse_foreign(data)
    file = files.read_basis(data)
    _same("wrong_base", file.spec.base, expected.base)
    _same("wrong_fingerprint", file.fingerprint, expected.fingerprint)
    _bounded({name: value for name, value in file.tensors.items() if not name.startswith("prior.")}, expected)
    for target in file.spec.targets:
        _mild(file.tensors[f"A.{target}"], file.tensors[f"B.{target}"], file.spec.scale, expected)
    return file.spec


def _low_rank(data: bytes, expected: Expected) -> None:
    file = files.read_low_rank(data)
    _belongs(file.base, file.basis, expected)
    _long_enough(file.tensors["vector"].size, expected)
    _bounded(file.tensors, expected)
    for name in file.tensors:
        if name.startswith("A."):
            A, B = file.tensors[name], file.tensors[f"B.{name[2:]}"]
            _mild(A, B, file.alpha / file.rank, expected)


def _tensors(data: bytes, expected: Expected) -> None:
    file = read_tensors(data)
    if file.places.keys() != expected.shapes.keys():
        raise AdapterRejected("tensor_names")
    for name, place in file.places.items():
        if place.shape != tuple(expected.shapes[name]) or len(place.shape) > 2:
            raise AdapterRejected("shape")
    tensors = {name: file.tensor(name) for name in file.places}
    for name, value in tensors.items():
        files.need_finite(name, value)
    _bounded(tensors, expected)
    for name, A in tensors.items():
        B = next((tensors[other] for other in partners(name) if other in tensors), None)
        if B is not None and A.ndim == B.ndim == 2 and A.shape[0] == B.shape[1]:
            _mild(A, B, 1.0, expected)


def partners(name: str) -> list[str]:
    """The names that the other half of a low-rank pair may have, given that of A: `A.x` or `x.lora_A.weight`."""
    found = [f"B.{name[2:]}"] if name.startswith("A.") else []
    return [*found, name.replace("lora_A", "lora_B")] if "lora_A" in name else found


def _belongs(base: str, basis: str, expected: Expected) -> None:
    _same("wrong_base", base, expected.base)
    _same("wrong_basis", basis, expected.basis)


def _long_enough(found: int, expected: Expected) -> None:
    if expected.dimensions is not None and found != expected.dimensions:
        raise AdapterRejected("dimensions")


def _same(code: str, found: str, needed: str | None) -> None:
    if needed is not None and found != needed:
        raise AdapterRejected(code)


def _bounded(tensors: Mapping[str, Floats], expected: Expected) -> None:
    for value in tensors.values():
        if value.size and max(float(value.max()), -float(value.min())) > expected.most:
            raise AdapterRejected("magnitude")


def _mild(A: Floats, B: Floats, scale: float, expected: Expected) -> None:
    """The largest singular value of scale x B A, A (rank, d_in), B (d_out, rank): from two small matrices."""
    if not A.size or not B.size:
        return
    try:
        R = np.linalg.qr(B.astype(np.float64), mode="r")  # |B A| = |R A|, and (R A)(R A)' is small
        product = R @ A.astype(np.float64)
        largest = float(np.linalg.eigvalsh(product @ product.T)[-1])
    except np.linalg.LinAlgError:
        raise AdapterRejected("norm") from None
    if not max(0.0, largest) ** 0.5 * abs(scale) <= expected.most_norm:
        raise AdapterRejected("norm")


CHECKS: Mapping[FileKind, Callable[[bytes, Expected], object]] = {
    FileKind.ADAPTER: _adapter,
    FileKind.STATISTICS: _statistics,
    FileKind.BASIS: check_basis,
    FileKind.LOW_RANK: _low_rank,
    FileKind.TENSORS: _tensors,
}


def warm() -> None:
    """Run once through what a check computes: numpy loads some of itself only when it is needed."""
    ones = np.ones((2, 2), np.float32)
    _mild(ones, ones, 1.0, Expected())
    _bounded({"ones": ones}, Expected())
    files.need_finite("ones", ones)
    for kind in FileKind:
        with suppress(AdapterRejected):
            CHECKS[kind](bytes(200), Expected())
    with suppress(AdapterRejected):
        read_json(b"{", "facts")
