"""Noised fits: a cohort's vectors from a few noised looks at the curves around the generic model.

A look gives for each user the sum of its rows' clipped gradients under noise, and nothing else of the rows is used:
everything after it is arithmetic on what was told, and takes nothing from the promise. How gradients bend is not asked
of the user, but of the population, by the Fisher information that the Basis kept. So a look at p tells of H p - g(p),
which for a parabola is the same wherever one looks: looks are averaged, and of their mean x under noise of variance v

    (prior + H t) p = prior mean + t x        t = H (H + v)^-1

is the best guess of the vector (the posterior mean under its prior): where noise drowns what the user said, it stays
at the population's mean, and without noise it is the least of the loss.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .adapter import Adapter
from .basis import Basis, Kind
from .curves import Curves, by_user, curves
from .outcome import FitFailed, FitFailure, FitSettings, Fitted
from .passes import Passes
from .privacy import Privacy, clipped, drawn

LEAST_SHARE = 1 / 8
"""What the newest look counts at least in the mean: after so many, the first ones were taken from too far away."""


def descend(run: Passes, counts: Sequence[int], settings: FitSettings, privacy: Privacy) -> list[Fitted | FitFailed]:
    """Fit the users of `run`, whose rows are theirs in order, `counts` of them each."""
    basis = run.engine.basis
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))  # (rows,)
    around = curves(run, torch.zeros(run.count, basis.spec.dimensions), directions=settings.directions)
    vectors = released(around, owner, basis, settings, privacy)
    return [_outcome(basis, vector, around.passes, privacy) for vector in vectors]


def released(found: Curves, owner: Tensor, basis: Basis, settings: FitSettings, privacy: Privacy) -> Tensor:
    """(users, d) float64. `found` are the rows' curves around the generic model; `owner` (rows,) counts up."""
    counts = torch.bincount(owner)
    users, d = len(counts), basis.spec.dimensions
    values, turn = torch.linalg.eigh(_information(basis, settings.directions, privacy))  # (d,), (d, d)
    bend = counts[:, None] * values.clamp_min(0.0)  # (users, d), in the directions of `turn`
    prior, mean = settings.prior, _turned(basis.prior_mean.double()[None], turn.T)
    at, told, variance = torch.zeros(users, d, dtype=torch.float64), torch.zeros(users, d, dtype=torch.float64), 0.0
    for look in range(1, privacy.looks + 1):
        here = found.moved(_turned(at, turn)[owner])
        slopes = by_user(clipped(here.gradients, privacy.clip), owner, users)
        slopes = slopes + drawn(users, d, privacy.noise, privacy.source)
        share = max(1 / look, LEAST_SHARE)
        told = (1 - share) * told + share * (bend * at - _turned(slopes, turn.T))
        variance = (1 - share) ** 2 * variance + share**2 * privacy.noise**2
        trust = bend / (bend + variance) if variance else torch.ones_like(bend)
        at = (prior * mean + trust * told) / (prior + trust * bend).clamp_min(1e-12)
    return _turned(at, turn)


def _information(basis: Basis, directions: int, privacy: Privacy) -> Tensor:
    """(d, d) of one example: the population's mean; of a Basis without one, that of gradients of clip's length.

    A causal LM's curves are flat beyond the first `directions` coordinates.
    """
    d, fisher = basis.spec.dimensions, basis.tensors.get("prior.fisher")
    plain = torch.eye(d, dtype=torch.float64) * (min(privacy.clip, 1.0) ** 2 / d)
    found = plain if fisher is None else fisher.double().cpu()
    walked = torch.arange(d) < (directions if basis.kind is Kind.CAUSAL_LM else d)
    return torch.where(walked[:, None] & walked, found, torch.zeros_like(found))


def _turned(rows: Tensor, by: Tensor) -> Tensor:
    """(n, d) of `rows` @ by.T, each by itself: its bits do not depend on who else is there."""
    return (rows[:, None, :] * by).sum(-1)


def _outcome(basis: Basis, vector: Tensor, passes: float, privacy: Privacy) -> Fitted | FitFailed:
    if not bool(torch.isfinite(vector).all()):
        return FitFailed(FitFailure.NOT_FINITE)  # of the Basis: no row's numbers come here unless they are finite
    nowhere = float("nan")
    return Fitted(Adapter.of(basis, vector.float()), privacy.looks, passes, loss_before=nowhere, loss=nowhere)
