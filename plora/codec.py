"""Adapter, Basis and Statistics to bytes and back: exact, versioned, never pickle. `files` says what bytes mean."""

import hashlib

import torch

from . import files
from .adapter import Adapter
from .basis import Basis, canonical
from .errors import AdapterRejected, MalformedAdapter, MalformedBasis, MalformedStatistics
from .files import ADAPTER_MAGIC, BASIS_MAGIC, FACTS, HEADER, STATISTICS_MAGIC
from .lowrank import LowRankAdapter
from .lowrank_codec import dumps_low_rank
from .statistics import Statistics


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
    head = HEADER.pack(ADAPTER_MAGIC, value.vector.numel(), 0, bytes.fromhex(value.base), bytes.fromhex(value.basis))
    return head + vector + hashlib.sha256(head + vector).digest()


def loads_adapter(data: bytes) -> Adapter:
    """The Adapter in `data`. Raises MalformedAdapter, which names the check that failed."""
    try:
        file = files.read_adapter(data)
    except AdapterRejected as rejected:
        raise MalformedAdapter(rejected.check, rejected.found) from None
    return Adapter(file.base, file.basis, torch.from_numpy(file.vector))


def loads_statistics(data: bytes) -> Statistics:
    """The Statistics in `data`. Raises MalformedStatistics, which names the check that failed."""
    try:
        file = files.read_statistics(data)
    except AdapterRejected as rejected:
        raise MalformedStatistics(rejected.check, rejected.found) from None
    d, (examples, prior, loss) = file.dimensions, file.facts
    numbers = torch.from_numpy(file.numbers).double()
    information = torch.zeros(d, d, dtype=torch.float64)
    information[*torch.triu_indices(d, d)] = numbers[2 * d :]
    information = information + information.triu(1).T
    return Statistics(file.base, file.basis, prior, examples, loss, numbers[:d], numbers[d : 2 * d], information)


def loads_basis(data: bytes) -> Basis:
    """The Basis in `data`. Raises MalformedBasis, which names the check or tensor that failed."""
    try:
        file = files.read_basis(data)
    except AdapterRejected as rejected:
        raise MalformedBasis(rejected.check, rejected.found) from None
    return Basis(file.spec, {name: torch.from_numpy(value) for name, value in file.tensors.items()})


def _dumps_statistics(value: Statistics) -> bytes:
    d = value.point.numel()
    upper = value.information[*torch.triu_indices(d, d)]
    numbers = torch.cat([value.point, value.gradient, upper]).numpy().astype("<f4").tobytes()
    head = HEADER.pack(STATISTICS_MAGIC, d, 0, bytes.fromhex(value.base), bytes.fromhex(value.basis))
    body = head + FACTS.pack(value.examples, value.prior, value.loss) + numbers
    return body + hashlib.sha256(body).digest()
