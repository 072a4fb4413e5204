"""Gauss-Newton for a cohort: every vector in one or two passes, each as if its user were alone.

Around a point the numbers a head gives are taken as linear in the vector. What a user's examples cost is then convex,
and its least is found without the model (plora/minimum.py). The true loss judges the outcome: where it is not lower,
that user's move is halved and judged again.

What each example would have cost had it not been learned from comes out of the same curves, those around the generic
model: it has seen none of the examples, while a point fitted to an example bends towards it, and would flatter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .adapter import Adapter
from .curves import Curves, by_user, curves
from .evidence import Contender, Evidence, evidence
from .minimum import least, left_out
from .outcome import Candidate, FitFailed, FitFailure, FitSettings, Fitted
from .passes import Passes
from .statistics import Statistics

RETRIES = 4


def descend(
    run: Passes, counts: Sequence[int], settings: FitSettings, judged: Tensor | None = None
) -> list[Fitted | FitFailed]:
    """Fit the users of `run`, whose rows are theirs in order, `counts` of them each.

    `judged` (rows,) of bool says which rows are evidence; None: all.
    """
    return _Descent(run, counts, settings, judged).result()


@dataclass(slots=True)
class _Told:
    """What the first look says of a user: its scores, and its label bias alone where the Basis has one."""

    evidence: Evidence
    candidate: Candidate | None


class _Descent:
    """Everything is per user; rows meet only in sums over one user's own."""

    def __init__(self, run: Passes, counts: Sequence[int], settings: FitSettings, judged: Tensor | None) -> None:
        self.run, self.settings, self.users = run, settings, len(counts)
        self.counts = torch.tensor(counts, dtype=torch.float64)
        self.owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))  # (rows,)
        self.judged = torch.ones(len(self.owner), dtype=torch.bool) if judged is None else judged
        self.basis = run.engine.basis
        self.mean = self.basis.prior_mean.double()
        self.point = torch.zeros(self.users, self.basis.spec.dimensions, dtype=torch.float64)  # the generic model
        self.whole = torch.ones(self.users, dtype=torch.bool)  # no step of the user was shortened
        self.passes = torch.zeros(self.users)
        self.before = torch.zeros(self.users, dtype=torch.float64)
        self.told: list[_Told] = []
        self.outcomes: list[Fitted | FitFailed | None] = [None] * self.users

    def result(self) -> list[Fitted | FitFailed]:
        active = torch.ones(self.users, dtype=torch.bool)
        for step in range(1, self.settings.most_steps + 1):
            found = curves(
                self.run, self.point[self.owner].float(), active[self.owner], directions=self.settings.directions
            )
            self.passes += active * found.passes
            active &= self._finite(found, active)
            if not bool(active.any()):
                break
            moves = least(found, self.owner, self.point - self.mean, self.settings.prior)
            proposal, losses = self._advance(found, moves, active)
            if step == 1:
                self.before = by_user(found.losses, self.owner, self.users)
                self.told = self._told(found, moves, losses, proposal)
            total = by_user(losses, self.owner, self.users)
            done = active & (self._foreseen(found, proposal, total) | torch.tensor(step == self.settings.most_steps))
            self._settle(found, proposal, total, done, step)
            self.point, active = proposal, active & ~done
            if not bool(active.any()):
                break
        return [outcome for outcome in self.outcomes if outcome is not None]

    def _finite(self, found: Curves, active: Tensor) -> Tensor:
        good = torch.isfinite(found.losses) & torch.isfinite(found.gradients).all(1)
        good &= torch.isfinite(found.information).flatten(1).all(1)
        finite = by_user((~good).double(), self.owner, self.users) == 0
        for user in (active & ~finite).nonzero()[:, 0].tolist():
            self.outcomes[user] = FitFailed(FitFailure.NOT_FINITE)
        return finite

    def _advance(self, found: Curves, moves: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """(users, d) where each user goes and (rows,) the true losses there, in sum no worse than where it is."""
        value = by_user(found.losses, self.owner, self.users) + self._penalty(self.point)
        arrived, losses = self.point.clone(), found.losses.clone()
        trying = active.clone()
        for _ in range(RETRIES):
            proposal = (self.point + moves).float().double()  # as the adapter will hold it
            there = self.run.losses(proposal[self.owner].float(), trying[self.owner]).double()
            self.passes += trying * 0.5
            total = by_user(there, self.owner, self.users) + self._penalty(proposal)
            better = trying & (total <= value)  # never where that is not a number
            arrived = torch.where(better[:, None], proposal, arrived)
            losses = torch.where(better[self.owner], there, losses)
            trying &= ~better
            if not bool(trying.any()):
                break
            self.whole &= ~trying
            moves = torch.where(trying[:, None], moves * 0.5, moves)
        return arrived, losses

    def _penalty(self, point: Tensor) -> Tensor:
        return 0.5 * self.settings.prior * (point - self.mean).square().sum(1)

    def _foreseen(self, found: Curves, proposal: Tensor, losses: Tensor) -> Tensor:
        """(users,) whether the curves told the truth: another look would change little."""
        expected = by_user(found.losses_at((proposal - self.point)[self.owner]), self.owner, self.users)
        return (expected - losses).abs() <= self.settings.tolerance * self.counts

    def _told(self, found: Curves, moves: Tensor, losses: Tensor, proposal: Tensor) -> list[_Told]:
        """Everyone's scores, from the curves around the generic model: it has learned none of the examples."""
        prior, bias, away = self.settings.prior, self.basis.spec.bias, self.point - self.mean
        others = left_out(found, self.owner, moves, away, prior)
        missed = torch.nan_to_num(losses - found.losses_at(proposal[self.owner]))
        full, alone, vectors = Contender(others, missed), None, None
        if bias:
            narrow = found.narrowed(bias)
            part = least(narrow, self.owner, away[:, :bias], prior)
            rest = torch.zeros(len(self.owner), self.point.shape[1] - bias, dtype=torch.float64)
            less = left_out(narrow, self.owner, part, away[:, :bias], prior)
            alone = Contender(torch.cat([less, rest], 1), torch.zeros(len(self.owner), dtype=torch.float64))
            vectors = torch.cat([part, torch.zeros_like(self.point[:, bias:])], 1)
        told = []
        for user, own in enumerate(evidence(found, self.owner, (full, alone), judged=self.judged, basis=self.basis)):
            made = None
            if vectors is not None and own.bias is not None and bool(torch.isfinite(vectors[user]).all()):
                made = Candidate(Adapter.of(self.basis, vectors[user].float()), own.bias)
            told.append(_Told(own, made))
        return told

    def _settle(self, found: Curves, proposal: Tensor, losses: Tensor, done: Tensor, steps: int) -> None:
        moved = found.moved((proposal - self.point)[self.owner])
        gradients, information = (by_user(x, self.owner, self.users) for x in (moved.gradients, moved.information))
        foreseen = by_user(moved.losses, self.owner, self.users)
        for user in done.nonzero()[:, 0].tolist():
            statistics = Statistics(
                base=self.basis.base,
                basis=self.basis.fingerprint,
                prior=self.settings.prior,
                examples=int(self.counts[user]),
                loss=float(foreseen[user]),
                point=proposal[user].clone(),
                gradient=gradients[user].clone(),
                information=information[user].clone(),
            )
            self.outcomes[user] = Fitted(
                adapter=Adapter.of(self.basis, proposal[user].float()),
                steps=steps,
                passes=float(self.passes[user]),
                loss_before=float(self.before[user] / self.counts[user]),
                loss=float(losses[user] / self.counts[user]),
                left_out=self.told[user].evidence.whole,
                left_out_losses=self.told[user].evidence.losses,
                generic_losses=self.told[user].evidence.generic,
                bias=self.told[user].candidate,
                statistics=statistics if self.whole[user] else None,
            )
