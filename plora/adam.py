"""Adam on the vectors of a cohort: the method's own way, a dozen passes, and the yardstick for the faster one.

Loss, moments, step count, finite check and stop belong to one user. Nothing is averaged, clipped or drawn across users.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .adapter import Adapter
from .curves import by_user
from .outcome import FitFailed, FitFailure, FitSettings, Fitted
from .passes import Passes


@dataclass(slots=True)
class _State:
    """Adam's and the stop rule's numbers, one row for each user."""

    vectors: Tensor  # (users, d)
    best: Tensor  # (users, d)
    best_objective: Tensor  # (users,)
    marked: Tensor  # (users,) objective when patience was last reset
    first: Tensor  # (users,) mean loss at the start
    best_loss: Tensor  # (users,) mean loss at the best vector
    moment: Tensor  # (users, d)
    square: Tensor  # (users, d)
    waited: Tensor  # (users,)
    steps: Tensor  # (users,)
    passes: Tensor  # (users,)
    active: Tensor  # (users,) bool
    finite: Tensor  # (users,) bool


def descend(run: Passes, counts: Sequence[int], settings: FitSettings) -> list[Fitted | FitFailed]:
    """Fit the users of `run`, whose rows are theirs in order, `counts` of them each."""
    basis, most = run.engine.basis, settings.most_steps
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))  # (rows,)
    state = _start(len(counts), basis.spec.dimensions)
    for step in range(most + 1):
        losses, gradients = run.gradients(state.vectors[owner], state.active[owner])
        state.passes += state.active
        total, gradient = by_user(losses, owner, len(counts)), by_user(gradients, owner, len(counts))
        away = state.vectors - basis.prior_mean
        objective = total + 0.5 * settings.prior * away.square().sum(1)
        gradient = gradient + settings.prior * away
        _judge(state, objective, total / torch.tensor(counts), gradient, settings)
        if step == most or not bool(state.active.any()):
            break
        _step(state, gradient, settings)
    return [
        Fitted(
            adapter=Adapter.of(basis, state.best[i]),
            steps=int(state.steps[i]),
            passes=float(state.passes[i]),
            loss_before=float(state.first[i]),
            loss=float(state.best_loss[i]),
        )
        if state.finite[i]
        else FitFailed(FitFailure.NOT_FINITE)
        for i in range(len(counts))
    ]


def _start(users: int, d: int) -> _State:
    inf = torch.full((users,), float("inf"))
    return _State(
        vectors=torch.zeros(users, d),
        best=torch.zeros(users, d),
        best_objective=inf.clone(),
        marked=inf.clone(),
        first=inf.clone(),
        best_loss=inf.clone(),
        moment=torch.zeros(users, d),
        square=torch.zeros(users, d),
        waited=torch.zeros(users),
        steps=torch.zeros(users),
        passes=torch.zeros(users),
        active=torch.ones(users, dtype=torch.bool),
        finite=torch.ones(users, dtype=torch.bool),
    )


def _judge(state: _State, objective: Tensor, loss: Tensor, gradient: Tensor, settings: FitSettings) -> None:
    """Keep each user's best vector, and end those who are done or whose numbers are not finite."""
    good = torch.isfinite(objective) & torch.isfinite(gradient).all(1)
    state.finite &= good | ~state.active
    state.active &= state.finite
    state.first = torch.where(torch.isinf(state.first) & good, loss, state.first)
    better = state.active & (objective < state.best_objective)
    state.best[better] = state.vectors[better]
    state.best_loss = torch.where(better, loss, state.best_loss)
    state.best_objective = torch.where(better, objective, state.best_objective)
    progress = state.active & (state.best_objective < state.marked * (1 - settings.progress))
    state.marked = torch.where(progress, state.best_objective, state.marked)
    state.waited = torch.where(progress, torch.zeros_like(state.waited), state.waited + 1)
    state.active &= state.waited < settings.patience


def _step(state: _State, gradient: Tensor, settings: FitSettings) -> None:
    """One Adam step (Kingma & Ba 2015) for the active users, each with its own step count."""
    beta1, beta2, epsilon = 0.9, 0.99, 1e-6
    on = state.active[:, None]
    state.steps += state.active
    gradient = torch.where(on, gradient, torch.zeros_like(gradient))
    state.moment = torch.where(on, beta1 * state.moment + (1 - beta1) * gradient, state.moment)
    state.square = torch.where(on, beta2 * state.square + (1 - beta2) * gradient.square(), state.square)
    count = state.steps[:, None].clamp_min(1)
    move = (state.moment / (1 - beta1**count)) / ((state.square / (1 - beta2**count)).sqrt() + epsilon)
    state.vectors = torch.where(on, state.vectors - settings.rate * move, state.vectors)
