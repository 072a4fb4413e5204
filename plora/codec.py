"""Adapter, Basis and Statistics to bytes and back: exact, versioned, never pickle.

Theory of operation. An Adapter file is

    0   4   "PLA1"            4   2   d, u16 little-endian       6   2   zero
    8   32  base fingerprint  40  32  basis fingerprint          72  4d  the vector, float32 little-endian
    72+4d  32  SHA-256 of all that precedes

a Statistics file is

    0   4   "PLS1"            4   2   d, u16 little-endian       6   2   zero
    8   32  base fingerprint  40  32  basis fingerprint          72  4   examples, u32
    76  16  prior weight and summed loss, float64                92  4n  point, gradient, and the upper triangle of the
    information row by row, float32: n = 2d + d(d+1)/2           92+4n  32  SHA-256 of all that precedes

and a Basis file is "PLB1", the SHA-256 of the rest, and a safetensors file whose metadata holds the spec as JSON.
The digests find damage; who made a file is for the seal to say.
"""

import hashlib
import json
import math
import struct

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from .adapter import Adapter
from .basis import Basis, BasisSpec, Kind, canonical
from .errors import MalformedAdapter, MalformedBasis, MalformedStatistics, PLoRAError
from .links import Link
from .lowrank import LowRankAdapter
from .lowrank_codec import dumps_low_rank
from .statistics import Statistics

ADAPTER_MAGIC, BASIS_MAGIC, STATISTICS_MAGIC = b"PLA1", b"PLB1", b"PLS1"
_HEADER = struct.Struct("<4sHH32s32s")
_FACTS = struct.Struct("<Idd")
MAX_HEADER_BYTES = 1 << 20


def dumps(value: Adapter | LowRankAdapter | Basis | Statistics) -> bytes:
    """The bytes of a value: the same value gives the same bytes."""
    if isinstance(value, Statistics):
        return _dumps_statistics(value)
    if isinstance(value, LowRankAdapter):
        return dumps_low_rank(value)
    if isinstance(value, Basis):
        body = canonical(value.spec, value.tensors)
        return BASIS_MAGIC + hashlib.sha256(body).digest() + body
    vector = value.vector.numpy().astype("<f4").tobytes()
    head = _HEADER.pack(ADAPTER_MAGIC, value.vector.numel(), 0, bytes.fromhex(value.base), bytes.fromhex(value.basis))
    return head + vector + hashlib.sha256(head + vector).digest()


def loads_adapter(data: bytes) -> Adapter:
    """The Adapter in `data`. Raises MalformedAdapter, which names the check that failed."""
    if len(data) < _HEADER.size + 32:
        raise MalformedAdapter("size", f"{len(data)} bytes, at least {_HEADER.size + 32} needed")
    magic, d, reserved, base, basis = _HEADER.unpack_from(data)
    if magic != ADAPTER_MAGIC:
        raise MalformedAdapter("format", "it does not begin with PLA1")
    if reserved != 0 or d == 0:
        raise MalformedAdapter("header", f"d = {d}, reserved = {reserved}")
    needed = _HEADER.size + 4 * d + 32
    if len(data) != needed:
        raise MalformedAdapter("size", f"{len(data)} bytes, {needed} needed for d = {d}")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise MalformedAdapter("digest", "the content does not match its SHA-256")
    vector = torch.from_numpy(np.frombuffer(data, "<f4", d, _HEADER.size).copy())
    return Adapter(base.hex(), basis.hex(), vector)


def _dumps_statistics(value: Statistics) -> bytes:
    d = value.point.numel()
    upper = value.information[*torch.triu_indices(d, d)]
    numbers = torch.cat([value.point, value.gradient, upper]).numpy().astype("<f4").tobytes()
    head = _HEADER.pack(STATISTICS_MAGIC, d, 0, bytes.fromhex(value.base), bytes.fromhex(value.basis))
    body = head + _FACTS.pack(value.examples, value.prior, value.loss) + numbers
    return body + hashlib.sha256(body).digest()


def loads_statistics(data: bytes) -> Statistics:
    """The Statistics in `data`. Raises MalformedStatistics, which names the check that failed."""
    start = _HEADER.size + _FACTS.size
    if len(data) < start + 32:
        raise MalformedStatistics("size", f"{len(data)} bytes, at least {start + 32} needed")
    magic, d, reserved, base, basis = _HEADER.unpack_from(data)
    if magic != STATISTICS_MAGIC:
        raise MalformedStatistics("format", "it does not begin with PLS1")
    if reserved != 0 or d == 0:
        raise MalformedStatistics("header", f"d = {d}, reserved = {reserved}")
    count = 2 * d + d * (d + 1) // 2
    if len(data) != start + 4 * count + 32:
        raise MalformedStatistics("size", f"{len(data)} bytes, {start + 4 * count + 32} needed for d = {d}")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise MalformedStatistics("digest", "the content does not match its SHA-256")
    examples, prior, loss = _FACTS.unpack_from(data, _HEADER.size)
    numbers = torch.from_numpy(np.frombuffer(data, "<f4", count, start).astype("<f8"))
    information = torch.zeros(d, d, dtype=torch.float64)
    information[*torch.triu_indices(d, d)] = numbers[2 * d :]
    information = information + information.triu(1).T
    return Statistics(base.hex(), basis.hex(), prior, examples, loss, numbers[:d], numbers[d : 2 * d], information)


def loads_basis(data: bytes) -> Basis:
    """The Basis in `data`. Raises MalformedBasis, which names the check or tensor that failed."""
    if data[:4] != BASIS_MAGIC:
        raise MalformedBasis("format", "it does not begin with PLB1")
    body = data[36:]
    if hashlib.sha256(body).digest() != data[4:36]:
        raise MalformedBasis("digest", "the content does not match its SHA-256")
    header_bytes = int.from_bytes(body[:8], "little")
    if header_bytes > min(MAX_HEADER_BYTES, len(body) - 8):
        raise MalformedBasis("header", f"{header_bytes} bytes")
    try:
        metadata = json.loads(body[8 : 8 + header_bytes])["__metadata__"]
        spec = _spec_of(json.loads(metadata["plora"]))
        tensors = load_safetensors(body)
    except MalformedBasis:
        raise
    except (SafetensorError, PLoRAError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise MalformedBasis("content", type(error).__name__) from error
    _check(spec, tensors)
    return Basis(spec, tensors)


def _spec_of(meta: object) -> BasisSpec:
    if not isinstance(meta, dict):
        raise MalformedBasis("facts", f"a {type(meta).__name__}, not an object")
    if meta.get("format") != 1:
        raise MalformedBasis("format", f"version {meta.get('format')!r}, this release reads 1")
    labels, targets = meta["labels"], meta["targets"]
    if not isinstance(labels, list) or not isinstance(targets, list):
        raise MalformedBasis("labels and targets", "not lists")
    if len(set(map(str, labels))) < len(labels):
        raise MalformedBasis("labels", "the same one twice")
    if not math.isfinite(alpha := float(str(meta["alpha"]))):
        raise MalformedBasis("alpha", "not finite")
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


def _check(spec: BasisSpec, tensors: dict[str, Tensor]) -> None:
    """Every tensor the spec needs, with its exact shape, finite, and no other."""
    needed = {f"{letter}.{target}" for letter in "ABP" for target in spec.targets} | {"prior.mean"}
    needed |= {"C", "M"} if spec.personal_head else set()
    free = {"prior.information", "prior.fisher"}
    named = {name for name in tensors if not name.startswith("head.")} - free
    if needed != named:
        raise MalformedBasis("tensors", f"{sorted(needed ^ named)[:3]} missing or not expected")
    if (spec.kind is Kind.CLASSIFICATION) != any(name.startswith("head.") for name in tensors):
        raise MalformedBasis("head", f"does not fit a {spec.kind.value} basis")
    for name, value in tensors.items():
        wrong = (
            (name.startswith("A.") and (value.dim() != 2 or value.shape[0] != spec.rank))
            or (name.startswith("B.") and (value.dim() != 2 or value.shape[1] != spec.rank))
            or (name.startswith("P.") and value.shape != (spec.rank, spec.dimensions))
            or (name == "C" and value.shape != (spec.outputs, spec.dimensions))
            or (name == "M" and (value.dim() != 3 or value.shape[:2] != (spec.dimensions, spec.outputs)))
            or (name == "prior.fisher" and value.shape != (spec.dimensions, spec.dimensions))
            or (name in ("prior.mean", "prior.information") and value.shape != (spec.dimensions,))
        )
        if wrong or value.dtype != torch.float32:
            raise MalformedBasis(name, f"shape {tuple(value.shape)} {value.dtype}")
        if not bool(torch.isfinite(value).all()):
            raise MalformedBasis(name, "not finite")
