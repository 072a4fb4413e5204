"""Adapter: the few numbers that make a base model and its Basis speak as one User."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .basis import Basis
from .errors import MalformedAdapter


@dataclass(frozen=True, slots=True)
class Adapter:
    """One user vector p_u, (d,) float32, bound to one Basis and one base model by fingerprint."""

    base: str
    basis: str
    vector: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        if self.vector.dim() != 1 or self.vector.dtype != torch.float32:
            raise MalformedAdapter("vector", f"{tuple(self.vector.shape)} {self.vector.dtype}, not (d,) float32")
        if not all_finite(self.vector):
            raise MalformedAdapter("vector", "not finite")

    @staticmethod
    def of(basis: Basis, vector: Tensor) -> "Adapter":
        """Bind `vector` to `basis`. Raises MalformedAdapter where its length is not the Basis's d."""
        if vector.numel() != basis.spec.dimensions:
            raise MalformedAdapter("vector", f"{vector.numel()} numbers, not {basis.spec.dimensions}")
        return Adapter(basis.base, basis.fingerprint, vector.detach().to("cpu", torch.float32).reshape(-1).clone())


def all_finite(values: Tensor) -> bool:
    """Whether no number is NaN or infinite: one that is makes the sum so, which is quicker to look at."""
    return math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all())
