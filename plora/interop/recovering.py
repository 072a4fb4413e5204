"""The vector that a directory of our own form was written from, by least squares.

At a target the export's constant is s B P p, at the head's last layer its weights are W + sum_k p_k M_k and b + C p:
all linear in p. Every equation is taken together, in float64. Along directions that move nothing the population's mean
comes back, which is where a fit leaves them.
"""

from dataclasses import replace

import torch
from torch import Tensor

from plora.adapter import Adapter
from plora.basemodel import BaseModel
from plora.basis import Basis, fresh_head
from plora.lowrank import LowRankAdapter

from .errors import NotRecovered
from .layernorms import constants_of
from .peft_folder import Part, PeftFolder
from .shares import Form, last_name

MOST_RESIDUAL = 1e-4
"""Relative; float32 and a rank that stands for a constant leave less than a tenth of it."""

TINY = 1e-3
"""The length of a vector that is as good as generic: what is left is not held against less than that."""

LEAST_EFFECT = 1e-6
"""Directions of a vector that move the answers less than this, against the strongest one, drown in float32."""


def in_family(found: PeftFolder, basis: Basis) -> bool:
    """Whether the first ranks at every target are the Basis's own."""
    return found.parts.keys() == set(basis.spec.targets) and _shared(found, basis) <= MOST_RESIDUAL


def recover(found: PeftFolder, base: BaseModel, basis: Basis, most: float) -> tuple[Adapter | LowRankAdapter, float]:
    """The user and the relative residual. Raises NotRecovered where it is above `most`."""
    if found.parts.keys() != set(basis.spec.targets):
        raise NotRecovered(float("inf"), most)
    if (shared := _shared(found, basis)) > most:
        raise NotRecovered(shared, most)
    parts = dict(found.parts)
    if found.note is not None:  # a hint from the file: what it says of the ranks must be so
        constant = found.note.form is Form.RANK_PLUS_ONE
        if {part.rank for part in parts.values()} != {basis.spec.rank + found.note.own + constant}:
            raise NotRecovered(float("inf"), most)
        parts = _without_constant_rank(parts, base, most) if constant else parts
    maps, seen = _at_targets(parts, basis)
    for one, other in _at_head(found, base, basis):
        maps.append(one)
        seen.append(other)
    vector, residual = _least_squares(torch.cat(maps), torch.cat(seen), basis.prior_mean.double())
    if not residual <= most:
        raise NotRecovered(residual, most)
    own = max(part.rank for part in parts.values()) - basis.spec.rank
    if own <= 0:
        return Adapter.of(basis, vector), residual
    return _low_rank(parts, basis, own, vector.float()), residual


def _shared(found: PeftFolder, basis: Basis) -> float:
    """How far the first ranks are from the Basis's: relative, the most of all targets."""
    worst = 0.0
    for name, part in found.parts.items():
        A, B = basis.tensors[f"A.{name}"], basis.spec.scale * basis.tensors[f"B.{name}"]
        r = basis.spec.rank
        if part.rank < r:
            return float("inf")
        for mine, theirs in ((A, part.A[:r]), (B, part.scale * part.B[:, :r])):
            worst = max(worst, float((mine - theirs).norm() / mine.norm().clamp_min(1e-12)))
    return worst


def _without_constant_rank(parts: dict[str, Part], base: BaseModel, most: float) -> dict[str, Part]:
    """The last rank as the bias that it is: its row on a LayerNorm's shift is what it reads at every token."""
    constants, found = constants_of(base.module, tuple(parts)), {}
    for name, part in parts.items():
        constant, row = constants.get(name), part.A[-1]
        if constant is None:
            raise NotRecovered(float("inf"), most)
        reads = float(row.double() @ constant.shift.double())
        off = float((row - reads * constant.row).norm() / row.norm().clamp_min(1e-12))
        if not off <= most:  # it reads something else as well
            raise NotRecovered(off, most)
        found[name] = replace(part, A=part.A[:-1], B=part.B[:, :-1], bias=part.B[:, -1] * reads)
    return found


def _at_targets(parts: dict[str, Part], basis: Basis) -> tuple[list[Tensor], list[Tensor]]:
    maps, seen = [], []
    for name, part in sorted(parts.items()):
        B, P = (basis.tensors[f"{letter}.{name}"].double() for letter in "BP")
        bias = torch.zeros(B.shape[0]) if part.bias is None else part.scale * part.bias
        maps.append(basis.spec.scale * (B @ P))
        seen.append(bias.double())
    return maps, seen


def _at_head(found: PeftFolder, base: BaseModel, basis: Basis) -> list[tuple[Tensor, Tensor]]:
    """Equations of the head's parameters; those without a user in them say by how much they are another's."""
    made = fresh_head(base.module, len(basis.labels), basis.spec.link) if basis.head() else None
    if made is None:
        return []
    if not found.head and found.note is not None and "M" not in basis.tensors:
        return []  # it was left in the base
    last, d, own = last_name(made[1]), basis.spec.dimensions, basis.head()
    if own.keys() != found.head.keys() or any(own[key].shape != found.head[key].shape for key in own):
        raise NotRecovered(float("inf"), MOST_RESIDUAL)
    equations = []
    for key, value in sorted(own.items()):
        change = (found.head[key].double() - value.double()).flatten()
        matrix = torch.zeros(len(change), d, dtype=torch.float64)
        if "M" in basis.tensors and key == f"{last}weight":
            matrix = basis.tensors["M"].double().flatten(1).T
        if "C" in basis.tensors and key == f"{last}bias":
            matrix = basis.tensors["C"].double()
        equations.append((matrix, change))
    return equations


def _least_squares(matrix: Tensor, seen: Tensor, mean: Tensor) -> tuple[Tensor, float]:
    """The solution nearest to the mean, and |matrix p - seen| / |seen|, |seen| being that of a tiny vector at least."""
    move = torch.linalg.lstsq(matrix, (seen - matrix @ mean)[:, None], rcond=LEAST_EFFECT, driver="gelsd").solution
    vector, size = mean + move[:, 0], max(float(seen.norm()), TINY * float(matrix.norm()))
    off = float((matrix @ vector - seen).norm())
    return vector, off / size if size > 0 else 0.0


def _low_rank(parts: dict[str, Part], basis: Basis, own: int, vector: Tensor) -> LowRankAdapter:
    tensors = {"vector": vector}
    for name, part in parts.items():
        A, B = part.A[basis.spec.rank :], part.scale * part.B[:, basis.spec.rank :]
        tensors |= {f"A.{name}": A.clone(), f"B.{name}": B.clone()}
    return LowRankAdapter(basis.base, basis.fingerprint, own, float(own), tensors)
