"""Files of an Adapter, a LowRankAdapter, Statistics and a Basis, read without torch. They raise AdapterRejected alone.

Theory of operation. An Adapter file is

    0   4   "PLA1"            4   2   d, u16 little-endian       6   2   zero
    8   32  base fingerprint  40  32  basis fingerprint          72  4d  the vector, float32 little-endian
    72+4d  32  SHA-256 of all that precedes

a Statistics file is

    0   4   "PLS1"            4   2   d, u16 little-endian       6   2   zero
    8   32  base fingerprint  40  32  basis fingerprint          72  4   examples, u32
    76  16  prior weight and summed loss, float64                92  4n  point, gradient, and the upper triangle of the
    information row by row, float32: n = 2d + d(d+1)/2           92+4n  32  SHA-256 of all that precedes

and Basis and LowRankAdapter files are "PLB1" or "PLR1", the SHA-256 of the rest, and a safetensors file whose metadata
holds the facts as JSON under "plora". The digests find damage; who made a file is for the seal to say.
"""

import hashlib
import math
import string
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .errors import AdapterRejected, WrongShape
from .spec import BasisSpec, Kind, Link
from .tensorfile import Floats, TensorFile, header_of, read_json, read_tensors

ADAPTER_MAGIC, BASIS_MAGIC, STATISTICS_MAGIC, LOW_RANK_MAGIC = b"PLA1", b"PLB1", b"PLS1", b"PLR1"
HEADER = struct.Struct("<4sHH32s32s")
FACTS = struct.Struct("<Idd")
MAX_FACTS_CHARS = 64 << 10
DIGEST = 32


@dataclass(frozen=True, slots=True)
class AdapterFile:
    base: str
    basis: str
    vector: Floats = field(repr=False)


@dataclass(frozen=True, slots=True)
class StatisticsFile:
    """`numbers` are point, gradient and the upper triangle of the information."""

    base: str
    basis: str
    dimensions: int
    facts: tuple[int, float, float]
    numbers: Floats = field(repr=False)


@dataclass(frozen=True, slots=True)
class BasisFile:
    spec: BasisSpec
    fingerprint: str
    tensors: Mapping[str, Floats] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LowRankFile:
    base: str
    basis: str
    rank: int
    alpha: float
    tensors: Mapping[str, Floats] = field(repr=False)


def read_adapter(data: bytes) -> AdapterFile:
    """Raises AdapterRejected."""
    base, basis, d = _head(data, ADAPTER_MAGIC, HEADER.size)
    _measure(data, HEADER.size + 4 * d + DIGEST, d)
    vector = np.frombuffer(data, "<f4", d, HEADER.size).astype(np.float32)
    need_finite("vector", vector)
    return AdapterFile(base, basis, vector)


def read_statistics(data: bytes) -> StatisticsFile:
    """Raises AdapterRejected."""
    start = HEADER.size + FACTS.size
    base, basis, d = _head(data, STATISTICS_MAGIC, start)
    count = 2 * d + d * (d + 1) // 2
    _measure(data, start + 4 * count + DIGEST, d)
    examples, prior, loss = FACTS.unpack_from(data, HEADER.size)
    numbers = np.frombuffer(data, "<f4", count, start).astype(np.float32)
    need_finite("numbers", numbers)
    if not math.isfinite(prior) or not math.isfinite(loss):
        raise AdapterRejected("not_finite", "numbers", "not finite")
    return StatisticsFile(base, basis, d, (examples, prior, loss), numbers)


def read_basis(data: bytes) -> BasisFile:
    """Raises AdapterRejected, which names the check or tensor that failed."""
    file, meta = _body(data, BASIS_MAGIC)
    spec = _spec_of(meta)
    tensors = _tensors(file)
    _fit(spec, {name: value.shape for name, value in tensors.items()})
    for name, value in tensors.items():
        need_finite(name, value)
    return BasisFile(spec, data[4 : 4 + DIGEST].hex(), tensors)


def read_low_rank(data: bytes) -> LowRankFile:
    """Raises AdapterRejected, which names the check or tensor that failed."""
    file, meta = _body(data, LOW_RANK_MAGIC)
    base, basis, rank, alpha = _low_rank_facts(meta)
    tensors = _tensors(file)
    fit_low_rank(rank, alpha, {name: value.shape for name, value in tensors.items()})
    for name, value in tensors.items():
        need_finite(name, value)
    return LowRankFile(base, basis, rank, alpha, tensors)


def fit_low_rank(rank: int, alpha: float, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Whether a LowRankAdapter can have these parts: A and B of each target, and the vector. Raises AdapterRejected."""
    if rank < 1 or not math.isfinite(alpha):
        raise AdapterRejected("facts", "rank and alpha", f"{rank}, {alpha}")
    targets = [name.removeprefix("A.") for name in shapes if name.startswith("A.")]
    named = {f"{letter}.{name}" for letter in "AB" for name in targets} | {"vector"}
    if named != shapes.keys() or len(named) == 1:
        raise AdapterRejected("tensor_names", "tensors", f"{sorted(named ^ shapes.keys())[:3]} missing or not expected")
    for name, shape in shapes.items():
        dims = 1 if name == "vector" else 2
        ranked = name == "vector" or (len(shape) == 2 and shape[0 if name[0] == "A" else 1] == rank)
        if len(shape) != dims or not ranked or 0 in shape:
            raise AdapterRejected("shape", name, f"shape {shape}")


def need_finite(name: str, values: Floats) -> None:
    if not bool(np.isfinite(values).all()):
        raise AdapterRejected("not_finite", name, "not finite")


def _head(data: bytes, magic: bytes, least: int) -> tuple[str, str, int]:
    """(base, basis, d)."""
    if data[:4] != magic:
        raise AdapterRejected("format", "format", f"it does not begin with {magic.decode()}")
    if len(data) < least + DIGEST:
        raise AdapterRejected("truncated", "size", f"{len(data)} bytes, at least {least + DIGEST} needed")
    _, d, reserved, base, basis = HEADER.unpack_from(data)
    if reserved != 0 or d == 0:
        raise AdapterRejected("header", "header", f"d = {d}, reserved = {reserved}")
    return base.hex(), basis.hex(), d


def _measure(data: bytes, needed: int, d: int) -> None:
    if len(data) != needed:
        raise AdapterRejected("size", "size", f"{len(data)} bytes, {needed} needed for d = {d}")
    if hashlib.sha256(memoryview(data)[:-DIGEST]).digest() != data[-DIGEST:]:
        raise AdapterRejected("digest", "digest", "the content does not match its SHA-256")


def _body(data: bytes, magic: bytes) -> tuple[TensorFile, object]:
    """The tensors, and the facts still unchecked. The header is looked at first: it is what bounds the rest."""
    start = len(magic) + DIGEST
    if data[:4] != magic:
        raise AdapterRejected("format", "format", f"it does not begin with {magic.decode()}")
    body = memoryview(data)[start:]
    header_of(body)
    if hashlib.sha256(body).digest() != data[4:start]:
        raise AdapterRejected("digest", "digest", "the content does not match its SHA-256")
    file = read_tensors(body, MAX_FACTS_CHARS)
    if file.notes.keys() != {"plora"}:
        raise AdapterRejected("metadata", "metadata", "not one entry, plora")
    return file, read_json(file.notes["plora"], "facts")


def _tensors(file: TensorFile) -> dict[str, Floats]:
    for name, place in file.places.items():
        if place.dtype != "F32":
            raise AdapterRejected("dtype", name, f"shape {place.shape} {place.dtype}")
    return {name: file.tensor(name) for name in file.places}


def _facts(meta: object) -> dict[str, object]:
    if not isinstance(meta, dict):
        raise AdapterRejected("facts", "facts", f"a {type(meta).__name__}, not an object")
    if (version := meta.get("format")) != 1:
        told = version if isinstance(version, int) else f"a {type(version).__name__}"
        raise AdapterRejected("facts", "format", f"version {told}, this release reads 1")
    return meta


def _spec_of(told: object) -> BasisSpec:
    meta = _facts(told)
    try:
        labels, targets = meta["labels"], meta["targets"]
        if not isinstance(labels, list) or not isinstance(targets, list):
            raise AdapterRejected("facts", "labels and targets", "not lists")
        if len(set(map(str, labels))) < len(labels):
            raise AdapterRejected("facts", "labels", "the same one twice")
        if not math.isfinite(alpha := float(str(meta["alpha"]))):
            raise AdapterRejected("facts", "alpha", "not finite")
        return BasisSpec(
            base=str(meta["base"]),
            kind=Kind(meta["kind"]),
            labels=tuple(str(label) for label in labels),
            targets=tuple(str(target) for target in targets),
            rank=int(str(meta["rank"])),
            alpha=alpha,
            dimensions=int(str(meta["dimensions"])),
            link=Link(meta.get("link", Link.CATEGORICAL.value)),
            bias=int(str(meta.get("bias", 0))),
            mixing=meta.get("mixing", False) is True,
        )
    except (WrongShape, KeyError, RecursionError, TypeError, ValueError) as error:
        raise AdapterRejected("facts", "content", type(error).__name__) from None


def _fit(spec: BasisSpec, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every tensor the spec needs, with its exact shape, and no other."""
    needed = {f"{letter}.{target}" for letter in "ABP" for target in spec.targets} | {"prior.mean"}
    needed |= {"C", "M"} if spec.personal_head else set()
    free = {"prior.information", "prior.fisher"}
    named = {name for name in shapes if not name.startswith("head.")} - free
    if needed != named:
        raise AdapterRejected("tensor_names", "tensors", f"{sorted(needed ^ named)[:3]} missing or not expected")
    if (spec.kind is Kind.CLASSIFICATION) != any(name.startswith("head.") for name in shapes):
        raise AdapterRejected("tensor_names", "head", f"does not fit a {spec.kind.value} basis")
    for name, shape in shapes.items():
        wrong = (
            (name.startswith("A.") and (len(shape) != 2 or shape[0] != spec.rank))
            or (name.startswith("B.") and (len(shape) != 2 or shape[1] != spec.rank))
            or (name.startswith("P.") and shape != (spec.rank, spec.dimensions))
            or (name == "C" and shape != (spec.outputs, spec.dimensions))
            or (name == "M" and (len(shape) != 3 or shape[:2] != (spec.dimensions, spec.outputs)))
            or (name == "prior.fisher" and shape != (spec.dimensions, spec.dimensions))
            or (name in ("prior.mean", "prior.information") and shape != (spec.dimensions,))
        )
        if wrong:
            raise AdapterRejected("shape", name, f"shape {shape}")


def _low_rank_facts(told: object) -> tuple[str, str, int, float]:
    meta = _facts(told)
    try:
        base, basis, rank, alpha = (meta[name] for name in ("base", "basis", "rank", "alpha"))
        for name, value in (("base", base), ("basis", basis)):
            if not isinstance(value, str) or len(value) != 64 or not set(value) <= set(string.hexdigits.lower()):
                raise AdapterRejected("facts", name, "not a fingerprint")
        if type(rank) is not int or not isinstance(alpha, int | float) or isinstance(alpha, bool):
            raise AdapterRejected("facts", "rank and alpha", f"a {type(rank).__name__} and a {type(alpha).__name__}")
        return str(base), str(basis), rank, float(alpha)
    except (KeyError, OverflowError) as error:
        raise AdapterRejected("facts", "content", type(error).__name__) from None
