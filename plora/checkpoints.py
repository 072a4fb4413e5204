"""Checkpoint: all that population training needs to go on after it was killed, as bytes; never pickle.

A file is "PLC1", the SHA-256 of the rest, and a safetensors file: the trained tensors, AdamW's moments, and as JSON
where training stood. Random numbers need no state: every micro-batch draws from a seed of its own.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from .errors import MalformedCheckpoint

CHECKPOINT_MAGIC = b"PLC1"
MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Standing:
    """Where training stands: `steps` of epoch number `epoch` are done, `loss` is the sum over its `examples` so far.

    `waited` counts the epochs since the held-out loss was last at its best.
    """

    epoch: int = 0
    steps: int = 0
    loss: float = 0.0
    examples: int = 0
    history: tuple[float, ...] = ()
    held_out: tuple[float, ...] = ()
    waited: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`identity` names the population, BaseModel and settings that it belongs to."""

    identity: str
    standing: Standing
    tensors: Mapping[str, Tensor] = field(repr=False)


def dumps_checkpoint(value: Checkpoint) -> bytes:
    """The bytes of a Checkpoint: the same value gives the same bytes. JSON's floats are exact."""
    meta = {"format": 1, "identity": value.identity, "standing": asdict(value.standing)}
    ordered = {name: value.tensors[name].detach().cpu().contiguous() for name in sorted(value.tensors)}
    body = save_safetensors(ordered, {"plora": json.dumps(meta, sort_keys=True)})
    return CHECKPOINT_MAGIC + hashlib.sha256(body).digest() + body


def loads_checkpoint(data: bytes) -> Checkpoint:
    """The Checkpoint in `data`. Raises MalformedCheckpoint, which names the check that failed."""
    body = data[36:]
    if data[:4] != CHECKPOINT_MAGIC:
        raise MalformedCheckpoint("format", "it does not begin with PLC1")
    if hashlib.sha256(body).digest() != data[4:36]:
        raise MalformedCheckpoint("digest", "the content does not match its SHA-256")
    size = int.from_bytes(body[:8], "little")
    if size > min(MAX_HEADER_BYTES, len(body) - 8):
        raise MalformedCheckpoint("header", f"{size} bytes")
    try:
        meta = json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["plora"])
        if meta["format"] != 1:
            raise MalformedCheckpoint("format", "another version")
        told = meta["standing"]
        told |= {name: tuple(map(float, told[name])) for name in ("history", "held_out")}
        return Checkpoint(str(meta["identity"]), Standing(**told), load_safetensors(body))
    except (SafetensorError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise MalformedCheckpoint("content", type(error).__name__) from error


def state_tensors(optimizer: torch.optim.Optimizer, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
    """Copies of the leaves and of what the optimiser keeps for each."""
    found = {f"leaf.{at}": leaf.detach().cpu().clone() for at, leaf in enumerate(leaves)}
    for at, leaf in enumerate(leaves):
        for name, value in optimizer.state.get(leaf, {}).items():
            found[f"state.{at}.{name}"] = torch.as_tensor(value).cpu().clone()
    return found


@torch.no_grad()
def restore_tensors(optimizer: torch.optim.Optimizer, leaves: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `state_tensors`. Raises MalformedCheckpoint where a tensor is missing or of another shape."""
    for at, leaf in enumerate(leaves):
        given = tensors.get(f"leaf.{at}")
        if given is None or given.shape != leaf.shape:
            raise MalformedCheckpoint(f"leaf.{at}", "missing, or of another shape")
        leaf.copy_(given)
        kept = {n.split(".", 2)[2]: value for n, value in tensors.items() if n.startswith(f"state.{at}.")}
        if kept:
            moved = {n: value.clone() if n == "step" else value.to(leaf.device, copy=True) for n, value in kept.items()}
            optimizer.state[leaf] = moved
