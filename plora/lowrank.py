"""LowRankAdapter: a user's own A and B for every target, for users who have more to say than a vector can hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from .adapter import Adapter, all_finite
from .basis import Basis
from .errors import AdapterRejected, MalformedAdapter, WrongShape
from .files import fit_low_rank
from .rows import Change, Changes


@dataclass(frozen=True, slots=True)
class LowRankAdapter:
    """h + alpha / rank B_u A_u x at every target, beside the user's vector, bound to one Basis and base model.

    `tensors` holds "A.<target>" (rank, d_in), "B.<target>" (d_out, rank) and "vector" (d,), all float32. The vector
    is the one the fit started from: zeros where it started from the generic model.
    """

    base: str
    basis: str
    rank: int
    alpha: float
    tensors: Mapping[str, Tensor] = field(repr=False)

    def __post_init__(self) -> None:
        """Raises MalformedAdapter."""
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        try:
            fit_low_rank(self.rank, self.alpha, {name: tuple(value.shape) for name, value in self.tensors.items()})
        except AdapterRejected as rejected:
            raise MalformedAdapter(rejected.check, rejected.found) from None
        for name, value in self.tensors.items():
            if value.dtype != torch.float32:
                raise MalformedAdapter(name, f"shape {tuple(value.shape)} {value.dtype}")
            if not all_finite(value):
                raise MalformedAdapter(name, "not finite")

    @property
    def targets(self) -> tuple[str, ...]:
        """The adapted modules, by name."""
        return tuple(sorted(name.removeprefix("A.") for name in self.tensors if name.startswith("A.")))

    @property
    def vector(self) -> Tensor:
        return self.tensors["vector"]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def check(self, basis: Basis) -> None:
        """Raises WrongShape where a target is not one of the Basis's, or a tensor does not fit there."""
        for name in self.targets:
            if name not in basis.spec.targets:
                raise WrongShape(name, (), tuple(self.tensors[f"A.{name}"].shape))
            for letter, dim in (("A", 1), ("B", 0)):
                needed, found = basis.tensors[f"{letter}.{name}"].shape, self.tensors[f"{letter}.{name}"].shape
                if needed[dim] != found[dim]:
                    raise WrongShape(f"{letter}.{name}", tuple(needed), tuple(found))
        if self.vector.shape != basis.prior_mean.shape:
            raise WrongShape("vector", tuple(basis.prior_mean.shape), tuple(self.vector.shape))


def stacked(
    users: Sequence[Adapter | LowRankAdapter | None], basis: Basis, device: torch.device
) -> dict[str, Change] | None:
    """The low-rank changes of a batch's rows, one stack for each target; None where no row has one.

    Rows without one, and the missing ranks of those with fewer, are zeros. The users must fit the Basis.
    """
    owners = [(row, user) for row, user in enumerate(users) if isinstance(user, LowRankAdapter)]
    if not owners:
        return None
    rank = max(user.rank for _, user in owners)
    changes = {}
    for name in basis.spec.targets:
        A = torch.zeros(len(users), rank, basis.tensors[f"A.{name}"].shape[1])
        B = torch.zeros(len(users), basis.tensors[f"B.{name}"].shape[0], rank)
        for row, user in owners:
            if f"A.{name}" in user.tensors:
                A[row, : user.rank] = user.tensors[f"A.{name}"]
                B[row, :, : user.rank] = user.scale * user.tensors[f"B.{name}"]
        changes[name] = Change(A.to(device), B.to(device))
    return changes


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the matrices of a Basis's targets stand in one flat row of a user's numbers."""

    targets: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]  # (d_in, d_out) of each
    rank: int
    alpha: float

    @staticmethod
    def of(basis: Basis, rank: int, alpha: float) -> "Layout":
        shapes = ((basis.tensors[f"A.{name}"].shape[1], basis.tensors[f"B.{name}"].shape[0]) for name in _names(basis))
        return Layout(tuple(_names(basis)), tuple(shapes), rank, alpha)

    @property
    def numbers(self) -> int:
        """How many numbers a user has."""
        return sum(self.rank * (d_in + d_out) for d_in, d_out in self.shapes)

    def parts(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of (rows, numbers): "A.<target>" (rows, rank, d_in), "B.<target>" (rows, d_out, rank)."""
        found, at = {}, 0
        for name, (d_in, d_out) in zip(self.targets, self.shapes, strict=True):
            middle, end = at + self.rank * d_in, at + self.rank * (d_in + d_out)
            found[f"A.{name}"] = flat[:, at:middle].view(-1, self.rank, d_in)
            found[f"B.{name}"] = flat[:, middle:end].view(-1, d_out, self.rank)
            at = end
        return found

    def changes(self, flat: Tensor) -> Changes:
        """What (rows, numbers) do to a batch of as many rows."""
        parts, scale = self.parts(flat), self.alpha / self.rank
        return {name: Change(parts[f"A.{name}"], scale * parts[f"B.{name}"]) for name in self.targets}

    def adapter(self, basis: Basis, flat: Tensor, vector: Tensor) -> LowRankAdapter:
        """(numbers,) and the (d,) vector they were fitted beside, as a user's own."""
        tensors = {name: part[0].detach().cpu().float().clone() for name, part in self.parts(flat[None]).items()}
        tensors["vector"] = vector.detach().cpu().float().clone()
        return LowRankAdapter(basis.base, basis.fingerprint, self.rank, self.alpha, tensors)


def _names(basis: Basis) -> list[str]:
    return sorted(basis.spec.targets)
