"""LowRankAdapter to bytes and back: exact, versioned, never pickle. `files` tells what the bytes mean."""

import hashlib
import json

import torch
from safetensors.torch import save as save_safetensors

from .errors import AdapterRejected, MalformedAdapter
from .files import LOW_RANK_MAGIC, read_low_rank
from .lowrank import LowRankAdapter


def dumps_low_rank(value: LowRankAdapter) -> bytes:
    """The bytes of a value: the same value gives the same bytes."""
    meta = {"format": 1, "base": value.base, "basis": value.basis, "rank": value.rank, "alpha": value.alpha}
    ordered = {name: value.tensors[name].detach().cpu().contiguous().clone() for name in sorted(value.tensors)}
    body = save_safetensors(ordered, {"plora": json.dumps(meta, sort_keys=True)})
    return LOW_RANK_MAGIC + hashlib.sha256(body).digest() + body


def is_low_rank(data: bytes) -> bool:
    """Whether `data` says that it is a LowRankAdapter, not an Adapter."""
    return data.startswith(LOW_RANK_MAGIC)


def loads_low_rank(data: bytes) -> LowRankAdapter:
    """The LowRankAdapter in `data`. Raises MalformedAdapter, which names the check or tensor that failed."""
    try:
        file = read_low_rank(data)
    except AdapterRejected as rejected:
        raise MalformedAdapter(rejected.check, rejected.found) from None
    tensors = {name: torch.from_numpy(value) for name, value in file.tensors.items()}
    return LowRankAdapter(file.base, file.basis, file.rank, file.alpha, tensors)
