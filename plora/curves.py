"""Curves: the loss of each row as a function of its user's vector, to second order around a point.

Everything here is elementwise over rows, in float64: a row's numbers are the same bits whoever else is there.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .engine import Precision
from .examples import IGNORE, MicroBatch, row_losses
from .links import LabelLink
from .passes import Passes, take

NUDGE = {Precision.FP32: 0.05, Precision.BF16: 0.5, Precision.FP16: 0.1}
"""How far a pseudo-user stands from the point, in prior standard deviations: beyond the precision's own noise."""


class Curves(ABC):
    """Rows' losses around the vectors (rows, d) they were taken at; `passes` is what taking them cost.

    One forward and one backward over a row is one pass; a forward alone, or a further backward, is half.
    """

    losses: Tensor  # (rows,) in nats
    gradients: Tensor  # (rows, d)
    information: Tensor  # (rows, d, d) Gauss-Newton: the Fisher information of the model's own answer
    passes: float

    @abstractmethod
    def losses_at(self, moves: Tensor) -> Tensor:
        """(rows,) losses foreseen for vectors moved by (rows, d)."""

    @abstractmethod
    def judged_at(self, moves: Tensor) -> Tensor:
        """(rows, 2) hits and losses foreseen for vectors moved by (rows, d); a hit is NaN where it is not known."""

    @abstractmethod
    def moved(self, moves: Tensor) -> "Curves":
        """The same curves seen from vectors moved by (rows, d): no pass over the model."""

    @abstractmethod
    def narrowed(self, width: int) -> "Curves":
        """Along the first `width` coordinates alone."""


class LabelCurves(Curves):
    """Of a classifier: its free numbers z (rows, width) are linear in the vector, their loss is not."""

    def __init__(self, z: Tensor, jacobian: Tensor, targets: Tensor, link: LabelLink) -> None:
        self._z, self._jacobian, self._targets, self._link = z, jacobian, targets, link
        log_chances = link.log_chances(z)
        chances, scores = log_chances.exp(), link.scores(z)  # (rows, labels), (rows, labels, width)
        by_label = torch.zeros(*chances.shape, jacobian.shape[-1], dtype=torch.float64)  # of log-chances, by vector
        for k in range(link.width):
            by_label += scores[..., k, None] * jacobian[:, None, k]
        self.losses = link.losses(z, targets)
        self.gradients = -by_label[torch.arange(len(z)), targets]
        self.information = torch.zeros(len(z), jacobian.shape[-1], jacobian.shape[-1], dtype=torch.float64)
        for label in range(chances.shape[1]):
            turned = by_label[:, label]
            self.information += (chances[:, label, None] * turned)[:, :, None] * turned[:, None, :]
        self.passes = 0.5 * (1 + link.width)

    def losses_at(self, moves: Tensor) -> Tensor:
        return self._link.losses(self._at(moves), self._targets)

    def judged_at(self, moves: Tensor) -> Tensor:
        chances = self.log_chances_at(moves)
        return _hits_and_losses(chances, self._targets)

    def log_chances_at(self, moves: Tensor) -> Tensor:
        """(rows, labels) foreseen for vectors moved by (rows, d)."""
        return self._link.log_chances(self._at(moves))

    def moved(self, moves: Tensor) -> "LabelCurves":
        return LabelCurves(self._at(moves), self._jacobian, self._targets, self._link)

    def narrowed(self, width: int) -> "LabelCurves":
        return LabelCurves(self._z, self._jacobian[..., :width], self._targets, self._link)

    @property
    def dimensions(self) -> int:
        """d."""
        return self._jacobian.shape[-1]

    @property
    def targets(self) -> Tensor:
        """(rows,) label indices."""
        return self._targets

    def _at(self, moves: Tensor) -> Tensor:
        return self._z + (self._jacobian * moves[:, None, :]).sum(-1)


class TokenCurves(Curves):
    """Of a causal LM, in its first `k` directions: a parabola for each row."""

    def __init__(self, losses: Tensor, gradients: Tensor, information: Tensor, passes: float) -> None:
        self.losses, self.gradients, self.information, self.passes = losses, gradients, information, passes

    def losses_at(self, moves: Tensor) -> Tensor:
        return self.losses + (self.gradients * moves).sum(-1) + 0.5 * (self._bent(moves) * moves).sum(-1)

    def judged_at(self, moves: Tensor) -> Tensor:
        losses = self.losses_at(moves)
        return torch.stack([torch.full_like(losses, math.nan), losses], 1)

    def moved(self, moves: Tensor) -> "TokenCurves":
        return TokenCurves(self.losses_at(moves), self.gradients + self._bent(moves), self.information, self.passes)

    def narrowed(self, width: int) -> "TokenCurves":
        return TokenCurves(self.losses, self.gradients[:, :width], self.information[:, :width, :width], self.passes)

    def _bent(self, moves: Tensor) -> Tensor:
        return (self.information * moves[:, None, :]).sum(-1)


def curves(run: Passes, vectors: Tensor, active: Tensor | None = None, *, directions: int = 8) -> Curves:
    """The curves of the active rows around `vectors` (count, d); other rows are flat.

    Derivatives by backward passes for labels, of which there are few; by pseudo-users along the first `directions`
    coordinates for a causal LM, whose answers are many: finite differences, since a vector is just another row's input.
    """
    link = run.engine.link
    return _of_tokens(run, vectors, active, directions) if link is None else _of_labels(run, vectors, active, link)


def _of_labels(run: Passes, vectors: Tensor, active: Tensor | None, link: LabelLink) -> LabelCurves:
    z = torch.zeros(run.count, link.width, dtype=torch.float64)
    jacobian = torch.zeros(run.count, link.width, vectors.shape[1], dtype=torch.float64)
    alike = not bool(vectors.any())  # around the generic model a text's curve is the same for all who met it
    for batch in run.batches(run.firsts if alike else active):
        leaf = take(vectors, batch).requires_grad_()
        free = link.free(run.raw(batch, leaf))
        real = len(batch.index)
        z[batch.index] = free.detach()[:real].to("cpu", torch.float64)
        for k in range(link.width):  # rows are independent: the sum keeps them apart
            (found,) = torch.autograd.grad(free[:, k].sum(), leaf, retain_graph=k < link.width - 1)
            jacobian[batch.index, k] = found[:real].to("cpu", torch.float64)
    if alike:
        z, jacobian = z[run.twins], jacobian[run.twins]
    return LabelCurves(z, jacobian, run.targets, link)


def _of_tokens(run: Passes, vectors: Tensor, active: Tensor | None, directions: int) -> TokenCurves:
    d = vectors.shape[1]
    losses, gradients = torch.zeros(run.count, dtype=torch.float64), torch.zeros(run.count, d, dtype=torch.float64)
    information = torch.zeros(run.count, d, d, dtype=torch.float64)
    k = min(d, directions)
    for batch in run.batches(active):
        leaf = take(vectors, batch).requires_grad_()
        logits = run.logits(batch, leaf)
        loss = row_losses(logits, batch.targets)
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        real = len(batch.index)
        losses[batch.index] = loss.detach()[:real].to("cpu", torch.float64)
        gradients[batch.index] = slope[:real].to("cpu", torch.float64)
        bent = _information(run, batch, leaf.detach(), k)
        information[batch.index, :k, :k] = bent[:real].to("cpu", torch.float64)
    if k < d:
        gradients[:, k:] = 0  # a direction whose bend is unknown is not walked
    return TokenCurves(losses, gradients, information, 1 + 0.5 * (k + 1))


@torch.no_grad()
def _information(run: Passes, batch: MicroBatch, vectors: Tensor, k: int) -> Tensor:
    """(rows, k, k): mean over the answer's tokens of D^T (diag(pi) - pi pi^T) D, D the logits' change by direction."""
    nudge = NUDGE[run.engine.precision]
    wanted = batch.targets[:, 1:] != IGNORE  # (rows, length - 1)
    here = run.logits(batch, vectors)[:, :-1][wanted].float()  # (answer tokens, vocabulary)
    chances = here.softmax(-1)
    changes = []
    for direction in range(k):
        moved = vectors.clone()
        moved[:, direction] += nudge
        change = (run.logits(batch, moved)[:, :-1][wanted].float() - here) / nudge
        changes.append((change - (chances * change).sum(-1, keepdim=True)) * chances.sqrt())
    owner = wanted.nonzero()[:, 0]
    found = torch.zeros(wanted.shape[0], k, k, device=here.device)
    for i in range(k):
        for j in range(i + 1):
            both = torch.zeros(wanted.shape[0], device=here.device)
            both.index_add_(0, owner, (changes[i] * changes[j]).sum(-1))
            found[:, i, j] = found[:, j, i] = both
    return found / wanted.sum(1).clamp_min(1)[:, None, None]


def _hits_and_losses(chances: Tensor, targets: Tensor) -> Tensor:
    losses = -chances.gather(1, targets[:, None])[:, 0]
    return torch.stack([(chances.argmax(1) == targets).to(losses), losses], 1)


def by_user(values: Tensor, owner: Tensor, users: int) -> Tensor:
    """(users, ...) sums over each user's own rows in their order, whoever else is there."""
    total = torch.zeros(users, *values.shape[1:], dtype=values.dtype)
    return total.index_add_(0, owner, values)
