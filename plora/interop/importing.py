"""import_peft: a PEFT directory as a user of a Basis, so that it goes into the same batches as everyone else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from plora.adapter import Adapter
from plora.basemodel import BaseModel
from plora.basis import Basis
from plora.errors import WrongBaseModel, WrongBasis
from plora.lowrank import LowRankAdapter
from plora.spec import Kind

from .bare import bare_basis
from .errors import NotRepresentable
from .peft_folder import Part, PeftFolder, read_folder
from .recovering import MOST_RESIDUAL, in_family, recover
from .shares import check_ready, need_free


@dataclass(frozen=True, slots=True)
class Imported:
    """A user, and the Basis to attach for them. `residual` is what least squares left, None where none was needed."""

    user: Adapter | LowRankAdapter
    basis: Basis
    residual: float | None


def import_peft(
    folder: str | Path,
    base: BaseModel,
    basis: Basis | None = None,
    *,
    labels: Sequence[str] = (),
    most_residual: float = MOST_RESIDUAL,
) -> Imported:
    """Read a LoRA directory of PEFT, safetensors only.

    With a Basis: a directory that was made with it gives its vector back, by least squares; any other LoRA becomes a
    low-rank adapter beside it that takes the Basis's own change away, so that the rows compute what PEFT computes;
    where the directory brings no task head, the Basis's answers. Without one it comes with a Basis of its own that
    shares nothing (`bare_basis`). `labels` names those of a head.

    A foreign directory does not say which weights it was made for: only that every module exists and every shape fits
    is checked. Raises AdapterRejected for a bad file, NotRepresentable for what we do not compute, NotRecovered,
    WrongBaseModel, WrongBasis, or AlreadyAttached for a model in use.
    """
    need_free(base)
    if basis is not None:
        check_ready(base, basis, None)
    found = read_folder(folder, base.module)
    if found.note is not None and found.note.base != base.fingerprint:
        raise WrongBaseModel(found.note.base, base.fingerprint)
    if basis is None:
        return _alone(found, base, labels)
    if found.note is not None and found.note.basis != basis.fingerprint:
        raise WrongBasis(found.note.basis, basis.fingerprint)
    if found.note is not None or in_family(found, basis):
        user, residual = recover(found, base, basis, most_residual)
        return Imported(user, basis, residual)
    return Imported(_beside(found, basis), basis, None)


def _alone(found: PeftFolder, base: BaseModel, labels: Sequence[str]) -> Imported:
    if found.note is not None and not found.head and base.kind is Kind.CLASSIFICATION:
        raise NotRepresentable("modules_to_save", "its head is in the base it was exported for: import with its basis")
    biases = {name: part.scale * part.bias for name, part in found.parts.items() if part.bias is not None}
    basis = bare_basis(base, tuple(found.parts), labels=labels, head=found.head or None, biases=biases)
    return Imported(_low_rank(found.parts, basis, torch.ones(1) if found.biased else torch.zeros(1)), basis, None)


def _beside(found: PeftFolder, basis: Basis) -> LowRankAdapter:
    """Raises NotRepresentable for what a low-rank change of the Basis's own targets cannot say."""
    if found.biased:
        raise NotRepresentable("lora_bias", "it is no vector of this basis: import without a basis")
    if not found.parts.keys() <= set(basis.spec.targets):
        raise NotRepresentable("target_modules", "some are no targets of this basis: import without a basis")
    own = basis.head()
    if found.head and (
        own.keys() != found.head.keys() or any(not torch.equal(own[key], found.head[key]) for key in own)
    ):
        raise NotRepresentable("modules_to_save", "its head is not this basis's: import without a basis")
    parts = dict(found.parts)
    for name in basis.spec.targets:
        A, B = basis.tensors[f"A.{name}"], basis.tensors[f"B.{name}"]
        if bool(B.any()) and bool(A.any()):
            parts[name] = _without(parts.get(name), A, basis.spec.scale * B)
    return _low_rank(parts, basis, torch.zeros(basis.spec.dimensions))


def _without(part: Part | None, A: Tensor, B: Tensor) -> Part:
    """The part less B A: both side by side, the second with the other sign."""
    if part is None:
        return Part(A, -B, None, 1.0)
    return Part(torch.cat([part.A, A]), torch.cat([part.scale * part.B, -B], 1), None, 1.0)


def _low_rank(parts: Mapping[str, Part], basis: Basis, vector: Tensor) -> LowRankAdapter:
    """One rank and one scale for all modules: missing ranks are zeros, and a scale that differs goes into B.

    Where all have the same, every number stays the file's own.
    """
    rank, scales = max(part.rank for part in parts.values()), {part.scale for part in parts.values()}
    scale = scales.pop() if len(scales) == 1 else 1.0
    tensors = {"vector": vector}
    for name, part in parts.items():
        A, B = torch.zeros(rank, part.A.shape[1]), torch.zeros(part.B.shape[0], rank)
        A[: part.rank], B[:, : part.rank] = part.A, part.B if part.scale == scale else part.scale * part.B
        tensors |= {f"A.{name}": A, f"B.{name}": B}
    return LowRankAdapter(basis.base, basis.fingerprint, rank, scale * rank, tensors)
