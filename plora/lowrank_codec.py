"""LowRankAdapter to bytes and back: exact, versioned, never pickle.

Theory of operation. A file is

    0   4   "PLR1"            4   32  SHA-256 of the rest         36  safetensors

whose metadata holds base and basis fingerprint, rank and alpha as JSON under "plora". The digest finds damage; who
made a file is for the seal to say.
"""

import hashlib
import json
import string

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from .errors import MalformedAdapter
from .lowrank import LowRankAdapter

LOW_RANK_MAGIC = b"PLR1"
MAX_HEADER_BYTES = 1 << 20


def dumps_low_rank(value: LowRankAdapter) -> bytes:
    """The bytes of a value: the same value gives the same bytes."""
    meta = {"format": 1, "base": value.base, "basis": value.basis, "rank": value.rank, "alpha": value.alpha}
    ordered = {name: value.tensors[name].detach().cpu().contiguous().clone() for name in sorted(value.tensors)}
    body = save_safetensors(ordered, {"plora": json.dumps(meta, sort_keys=True)})
    return LOW_RANK_MAGIC + hashlib.sha256(body).digest() + body


def loads_low_rank(data: bytes) -> LowRankAdapter:
    """The LowRankAdapter in `data`. Raises MalformedAdapter, which names the check or tensor that failed."""
    if data[:4] != LOW_RANK_MAGIC:
        raise MalformedAdapter("format", "it does not begin with PLR1")
    body = data[36:]
    if hashlib.sha256(body).digest() != data[4:36]:
        raise MalformedAdapter("digest", "the content does not match its SHA-256")
    header_bytes = int.from_bytes(body[:8], "little")
    if header_bytes > min(MAX_HEADER_BYTES, len(body) - 8):
        raise MalformedAdapter("header", f"{header_bytes} bytes")
    try:
        metadata = json.loads(body[8 : 8 + header_bytes])["__metadata__"]
        base, basis, rank, alpha = _facts_of(json.loads(metadata["plora"]))
        return LowRankAdapter(base, basis, rank, alpha, load_safetensors(body))
    except (SafetensorError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise MalformedAdapter("content", type(error).__name__) from error


def _facts_of(meta: object) -> tuple[str, str, int, float]:
    if not isinstance(meta, dict):
        raise MalformedAdapter("facts", f"a {type(meta).__name__}, not an object")
    if meta.get("format") != 1:
        raise MalformedAdapter("format", f"version {meta.get('format')!r}, this release reads 1")
    base, basis, rank, alpha = (meta[name] for name in ("base", "basis", "rank", "alpha"))
    for name, value in (("base", base), ("basis", basis)):
        if not isinstance(value, str) or len(value) != 64 or not set(value) <= set(string.hexdigits.lower()):
            raise MalformedAdapter(name, "not a fingerprint")
    if type(rank) is not int or not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise MalformedAdapter("rank and alpha", f"a {type(rank).__name__} and a {type(alpha).__name__}")
    return base, basis, rank, float(alpha)
