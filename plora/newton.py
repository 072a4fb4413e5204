"""Gauss-Newton with Levenberg-Marquardt damping: a cohort's vectors in one or two passes, each as if alone.

Around a point the loss of every example is taken as a parabola with its Fisher information for a bend; the prior is
one exactly, and so is the sum: one solve of d numbers gives the user's best vector. The true loss judges it, and where
it is not better that user's step is damped and judged again.

Leave-one-out losses come from the same parabolas, those around the generic model: it has seen none of the examples,
while a point that was fitted to an example bends towards it, and would flatter.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .adapter import Adapter
from .curves import Curves, by_user, curves
from .outcome import FitFailed, FitFailure, FitSettings, Fitted, LeaveOneOut
from .passes import Passes
from .statistics import Statistics, newton_moves

RETRIES = 4
GROWTH = 10.0


def descend(run: Passes, counts: Sequence[int], settings: FitSettings) -> list[Fitted | FitFailed]:
    """Fit the users of `run`, whose rows are theirs in order, `counts` of them each."""
    return _Descent(run, counts, settings).result()


class _Descent:
    """Everything is per user; rows meet only in sums over one user's own."""

    def __init__(self, run: Passes, counts: Sequence[int], settings: FitSettings) -> None:
        self.run, self.settings, self.users = run, settings, len(counts)
        self.counts = torch.tensor(counts, dtype=torch.float64)
        self.owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))  # (rows,)
        self.basis = run.engine.basis
        self.mean = self.basis.prior_mean.double()
        self.point = torch.zeros(self.users, self.basis.spec.dimensions, dtype=torch.float64)  # the generic model
        self.damping = torch.zeros(self.users, dtype=torch.float64)
        self.passes = torch.zeros(self.users)
        self.before = torch.zeros(self.users, dtype=torch.float64)
        self.left_out: list[LeaveOneOut] = []
        self.outcomes: list[Fitted | FitFailed | None] = [None] * self.users

    def result(self) -> list[Fitted | FitFailed]:
        active = torch.ones(self.users, dtype=torch.bool)
        for step in range(1, self.settings.most_steps + 1):
            found = curves(
                self.run, self.point[self.owner].float(), active[self.owner], directions=self.settings.directions
            )
            self.passes += active * found.passes
            sums = _Sums(found, self.owner, self.users)
            active &= self._finite(sums, active)
            if not bool(active.any()):
                break
            if step == 1:
                self.before, self.left_out = sums.losses, self._left_out(found, sums)
            proposal, losses = self._advance(sums, active)
            done = active & (self._foreseen(found, proposal, losses) | torch.tensor(step == self.settings.most_steps))
            self._settle(sums, proposal, losses, done, step)
            self.point, active = proposal, active & ~done
            if not bool(active.any()):
                break
        return [outcome for outcome in self.outcomes if outcome is not None]

    def _finite(self, sums: "_Sums", active: Tensor) -> Tensor:
        finite = torch.isfinite(sums.losses) & torch.isfinite(sums.gradients).all(1)
        finite &= torch.isfinite(sums.information).flatten(1).all(1)
        for user in (active & ~finite).nonzero()[:, 0].tolist():
            self.outcomes[user] = FitFailed(FitFailure.NOT_FINITE)
        return finite

    def _advance(self, sums: "_Sums", active: Tensor) -> tuple[Tensor, Tensor]:
        """(users, d) where each user goes and (users,) its summed loss there: no worse than where it is."""
        value = sums.losses + self._penalty(self.point)
        arrived, losses = self.point.clone(), sums.losses.clone()
        trying = active.clone()
        for _ in range(RETRIES):
            proposal = self.point + self._moves(sums.gradients, sums.information, self.damping)
            proposal = proposal.float().double()  # as the adapter will hold it
            found = self.run.losses(proposal[self.owner].float(), trying[self.owner])
            self.passes += trying * 0.5
            there = by_user(found.double(), self.owner, self.users)
            better = trying & (there + self._penalty(proposal) <= value)  # never where that is not a number
            arrived = torch.where(better[:, None], proposal, arrived)
            losses = torch.where(better, there, losses)
            trying &= ~better
            if not bool(trying.any()):
                break
            self.damping = torch.where(trying, (self.damping * GROWTH).clamp_min(1.0), self.damping)
        return arrived, losses

    def _moves(self, gradients: Tensor, information: Tensor, damping: Tensor) -> Tensor:
        pull = self.settings.prior * (self.point - self.mean)
        return newton_moves(information, gradients + pull, self.settings.prior + damping)

    def _penalty(self, point: Tensor) -> Tensor:
        return 0.5 * self.settings.prior * (point - self.mean).square().sum(1)

    def _foreseen(self, found: Curves, proposal: Tensor, losses: Tensor) -> Tensor:
        """(users,) whether the parabolas told the truth: another look would change little."""
        expected = by_user(found.losses_at((proposal - self.point)[self.owner]), self.owner, self.users)
        return (expected - losses).abs() <= self.settings.tolerance * self.counts

    def _settle(self, sums: "_Sums", proposal: Tensor, losses: Tensor, done: Tensor, steps: int) -> None:
        for user in done.nonzero()[:, 0].tolist():
            self.outcomes[user] = Fitted(
                adapter=Adapter.of(self.basis, proposal[user].float()),
                steps=steps,
                passes=float(self.passes[user]),
                loss_before=float(self.before[user] / self.counts[user]),
                loss=float(losses[user] / self.counts[user]),
                leave_one_out=self.left_out[user],
                statistics=self._statistics(sums, user) if self.damping[user] == 0 else None,
            )

    def _left_out(self, found: Curves, sums: "_Sums") -> list[LeaveOneOut]:
        """Each row's loss under the vector that its user's other rows give."""
        pull = self.settings.prior * (self.point - self.mean)
        moves = newton_moves(
            sums.information[self.owner] - found.information,
            sums.gradients[self.owner] - found.gradients + pull[self.owner],
            torch.full((len(self.owner),), self.settings.prior, dtype=torch.float64),
        )
        left_out, sizes = found.losses_at(moves), [int(n) for n in self.counts]
        parts = zip(torch.split(left_out, sizes), torch.split(found.losses - left_out, sizes), strict=True)
        return [_leave_one_out(losses, gains) for losses, gains in parts]

    def _statistics(self, sums: "_Sums", user: int) -> Statistics:
        return Statistics(
            base=self.basis.base,
            basis=self.basis.fingerprint,
            prior=self.settings.prior,
            examples=int(self.counts[user]),
            loss=float(sums.losses[user]),
            point=self.point[user].clone(),
            gradient=sums.gradients[user].clone(),
            information=sums.information[user].clone(),
        )


class _Sums:
    """Curves summed over each user's rows."""

    def __init__(self, found: Curves, owner: Tensor, users: int) -> None:
        self.losses = by_user(found.losses, owner, users)
        self.gradients = by_user(found.gradients, owner, users)
        self.information = by_user(found.information, owner, users)


def _leave_one_out(losses: Tensor, gains: Tensor) -> LeaveOneOut:
    n = len(losses)
    spread = float(gains.std() / n**0.5) if n > 1 else 0.0
    return LeaveOneOut(n, float(losses.mean()), float(gains.mean()), spread)
