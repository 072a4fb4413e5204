"""Statistics: all that a user's examples say about the user's vector, in a size that does not grow with them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import MalformedStatistics


@dataclass(frozen=True, slots=True)
class Statistics:
    """The second-order sum of a user's losses around `point`: enough to add an example without the others.

    point, gradient: (d,), information: (d, d), all float64; `examples` is how many were summed, `loss` their summed
    loss at the point, in nats; `prior` the weight of 1/2 |p - prior mean|^2. As private as the examples.
    """

    base: str
    basis: str
    prior: float
    examples: int
    loss: float
    point: Tensor = field(repr=False)
    gradient: Tensor = field(repr=False)
    information: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        d = self.point.numel()
        if self.point.shape != (d,) or self.gradient.shape != (d,) or self.information.shape != (d, d):
            raise MalformedStatistics("shape", f"point of {d}, information {tuple(self.information.shape)}")
        parts = (self.point, self.gradient, self.information, torch.tensor([self.loss, self.prior]))
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            raise MalformedStatistics("numbers", "not finite")

    def vector(self, prior_mean: Tensor, damping: float = 0.0) -> Tensor:
        """(d,) float64: the vector that minimises the sum with the prior; a singular sum without prior stays put."""
        moves = newton_moves(
            self.information[None],
            (self.gradient + self.prior * (self.point - prior_mean.double()))[None],
            torch.tensor([self.prior + damping], dtype=torch.float64),
        )
        return self.point + moves[0]

    def covariance(self) -> Tensor:
        """(d, d) of the posterior over the vector (Laplace): the inverse of information plus prior."""
        eye = torch.eye(len(self.point), dtype=torch.float64)
        inverse: Tensor = torch.linalg.pinv(self.information + self.prior * eye, hermitian=True)
        return inverse

    def plus(self, examples: int, loss: float, gradient: Tensor, information: Tensor) -> "Statistics":
        """With further examples, summed around the same point."""
        return Statistics(
            base=self.base,
            basis=self.basis,
            prior=self.prior,
            examples=self.examples + examples,
            loss=self.loss + loss,
            point=self.point,
            gradient=self.gradient + gradient,
            information=self.information + information,
        )


def newton_moves(information: Tensor, gradients: Tensor, ridge: Tensor) -> Tensor:
    """(n, d) solutions of (information + ridge 1) move = -gradient; 0 where that matrix is not positive definite.

    information: (n, d, d); gradients: (n, d); ridge: (n,); float64, each solved by itself.
    """
    eye = torch.eye(information.shape[-1], dtype=information.dtype)
    factors, failed = torch.linalg.cholesky_ex(information + ridge[:, None, None] * eye)
    moves = -torch.cholesky_solve(gradients[..., None], factors)[..., 0]
    usable = (failed == 0) & torch.isfinite(moves).all(-1)
    return torch.where(usable[:, None], moves, torch.zeros_like(moves))
