"""Adam on the low-rank matrices of a cohort: one flat row of numbers for each user, all users in common passes.

Loss, moments, finite check and stop belong to one user. A row's gradient is taken with respect to its own copy of the
numbers and added to its user's in the user's own order, so no sum depends on who else is in the micro-batch. All
users begin at once and none begins again, so Adam's step count is the same for all who still descend.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .curves import by_user
from .examples import row_losses
from .lowrank import Layout
from .lowrank_outcome import LowRankFitted, LowRankSettings
from .outcome import FitFailed, FitFailure
from .passes import Passes, take

BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-6


@dataclass(frozen=True, slots=True)
class Cohort:
    """Whose the rows of some passes are: `owner` (rows,) the user, `vectors` (rows, d) what each row starts beside."""

    run: Passes
    layout: Layout
    owner: Tensor
    vectors: Tensor = field(repr=False)


@dataclass(slots=True)
class _State:
    """(users, numbers) on the model's device; (users,) on the CPU."""

    numbers: Tensor
    best: Tensor
    moment: Tensor
    square: Tensor
    best_objective: Tensor  # (users,)
    marked: Tensor  # (users,) objective when patience was last reset
    first: Tensor  # (users,) mean loss at the start
    best_loss: Tensor  # (users,) mean loss at the best numbers
    waited: Tensor  # (users,)
    steps: Tensor  # (users,)
    passes: Tensor  # (users,)
    active: Tensor  # (users,) bool
    finite: Tensor  # (users,) bool


def descend(
    run: Passes, counts: Sequence[int], vectors: Tensor, start: Tensor, settings: LowRankSettings
) -> list[LowRankFitted | FitFailed]:
    """Fit the users of `run`, whose rows are theirs in order, `counts` of them each.

    vectors: (users, d) what each starts beside; start: (numbers,) where all begin and what `prior` pulls towards.
    """
    basis = run.engine.basis
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))  # (rows,)
    cohort = Cohort(run, Layout.of(basis, settings.rank, settings.alpha), owner, vectors[owner])
    origin = start.to(run.engine.base.device)
    state = _start(len(counts), origin)
    for step in range(settings.steps + 1):
        losses, gradient = gradients(cohort, state.numbers, state.active)
        state.passes += state.active
        away = state.numbers - origin
        total = by_user(losses, owner, len(counts))
        objective = total + 0.5 * settings.prior * _norms(away)
        gradient += settings.prior * away
        _judge(state, objective, total / torch.tensor(counts), gradient, settings)
        if step == settings.steps or not bool(state.active.any()):
            break
        _step(state, gradient, step + 1, settings.rate)
    return [
        LowRankFitted(
            adapter=cohort.layout.adapter(basis, state.best[i], vectors[i]),
            steps=int(state.steps[i]),
            passes=float(state.passes[i]),
            loss_before=float(state.first[i]),
            loss=float(state.best_loss[i]),
        )
        if state.finite[i]
        else FitFailed(FitFailure.NOT_FINITE)
        for i in range(len(counts))
    ]


def gradients(cohort: Cohort, numbers: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """(rows,) losses, and (users, numbers) gradients of each user's summed loss. One pass of the active users."""
    run, owner = cohort.run, cohort.owner
    losses, total = torch.zeros(run.count), torch.zeros_like(numbers)
    for batch in run.batches(active[owner]):
        real, users = len(batch.index), owner[batch.index]
        leaf = numbers.new_zeros(batch.ids.shape[0], numbers.shape[1])
        leaf[:real] = numbers[users.to(numbers.device)]
        leaf.requires_grad_()
        logits = run.logits(batch, take(cohort.vectors, batch), cohort.layout.changes(leaf))
        loss = row_losses(logits, batch.targets)
        (found,) = torch.autograd.grad(loss.sum(), leaf)  # rows are independent: the sum keeps them apart
        losses[batch.index] = loss.detach()[:real].float().cpu()
        add_in_order(total, users, found[:real])
    return losses, total


def add_in_order(total: Tensor, users: Tensor, parts: Tensor) -> None:
    """Add (rows, ...) to their users' rows of (users, ...), one row after another.

    On a CPU `index_add_` does so; a GPU's adds in any order, so each turn has at most one row of a user.
    """
    if total.device.type == "cpu":
        total.index_add_(0, users, parts)
        return
    by_turns(total, users, parts)


def by_turns(total: Tensor, users: Tensor, parts: Tensor) -> None:
    """`add_in_order` for any device."""
    same = users[:, None] == users[None, :]
    turn = same.tril(-1).sum(1)  # how many rows of the same user come before
    for at in range(int(turn.max()) + 1):
        rows = (turn == at).nonzero()[:, 0]
        chosen = users[rows].to(total.device)
        total[chosen] = total[chosen] + parts[rows.to(total.device)]


def _start(users: int, start: Tensor) -> _State:
    numbers, inf = start.repeat(users, 1), torch.full((users,), float("inf"))
    return _State(
        numbers=numbers,
        best=numbers.clone(),
        moment=torch.zeros_like(numbers),
        square=torch.zeros_like(numbers),
        best_objective=inf.clone(),
        marked=inf.clone(),
        first=inf.clone(),
        best_loss=inf.clone(),
        waited=torch.zeros(users),
        steps=torch.zeros(users),
        passes=torch.zeros(users),
        active=torch.ones(users, dtype=torch.bool),
        finite=torch.ones(users, dtype=torch.bool),
    )


def _norms(away: Tensor) -> Tensor:
    """(users,) squared norms, each by itself: one sum over all is split among threads by the number of users."""
    return torch.stack([row.square().sum() for row in away]).cpu()


def _judge(state: _State, objective: Tensor, loss: Tensor, gradient: Tensor, settings: LowRankSettings) -> None:
    """Keep each user's best numbers, and end those who are done or whose numbers are not finite."""
    good = torch.isfinite(objective) & torch.isfinite(gradient).all(1).cpu()
    state.finite &= good | ~state.active
    state.active &= state.finite
    state.first = torch.where(torch.isinf(state.first) & good, loss, state.first)
    better = state.active & (objective < state.best_objective)
    chosen = better.to(state.best.device)
    state.best[chosen] = state.numbers[chosen]
    state.best_loss = torch.where(better, loss, state.best_loss)
    state.best_objective = torch.where(better, objective, state.best_objective)
    progress = state.active & (state.best_objective < state.marked * (1 - settings.progress))
    state.marked = torch.where(progress, state.best_objective, state.marked)
    state.waited = torch.where(progress, torch.zeros_like(state.waited), state.waited + 1)
    state.active &= state.waited < settings.patience


def _step(state: _State, gradient: Tensor, count: int, rate: float) -> None:
    """Adam's step number `count` (Kingma & Ba 2015) for the active users, in place over the whole stack."""
    state.steps += state.active
    state.moment.mul_(BETA1).add_(gradient * (1 - BETA1))
    state.square.mul_(BETA2).add_(gradient.square().mul_(1 - BETA2))
    move = state.moment / (1 - BETA1**count)
    move.div_((state.square / (1 - BETA2**count)).sqrt_().add_(EPSILON)).mul_(rate)
    state.numbers.sub_(move.masked_fill_(~state.active[:, None].to(move.device), 0.0))
