"""Fitting: the vectors of a cohort of users in common passes, each exactly as if its user were alone.

Every row's gradient is taken with respect to that row's own vector and summed per user in the order of the user's
examples; loss, Adam moments, step count, finite check and stop belong to one user. Nothing is averaged, clipped or
drawn across users.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from .adapter import Adapter
from .attachment import Attachment, attached
from .basemodel import BaseModel
from .basis import Basis
from .errors import UnknownLabel
from .examples import Example, Row, encode
from .passes import Passes, passes


@dataclass(frozen=True, slots=True)
class FitSettings:
    """`rate` is Adam's step in prior standard deviations; `prior` weighs 1/2 |p - mean|^2 against the summed loss.

    The prior's weight is above 1 because the population's vectors were fitted to their own examples, and so spread more
    than a newcomer's should: 4 gave the best held-out likelihood of 1, 2 and 4, and the fewest users made worse.

    A user stops after `steps`, or when `patience` steps improved its objective by less than the share `tolerance`.
    """

    steps: int = 12
    rate: float = 0.3
    prior: float = 4.0
    tolerance: float = 0.003
    patience: int = 3


class FitFailure(Enum):
    """Why a user's fit gave no adapter."""

    NO_EXAMPLES = "no_examples"
    UNKNOWN_LABEL = "unknown_label"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A user's adapter, the passes it took, and the mean loss of its examples before and after, in nats."""

    adapter: Adapter = field(repr=False)
    steps: int
    loss_before: float
    loss: float


@dataclass(frozen=True, slots=True)
class FitFailed:
    """This user's fit gave nothing; the others' are untouched."""

    reason: FitFailure


def fit(
    base: BaseModel, basis: Basis, cohort: Sequence[Sequence[Example]], settings: FitSettings | None = None
) -> list[Fitted | FitFailed]:
    """Fit one vector for each user's examples; only vectors change. One outcome for each user, in order."""
    outcomes: list[Fitted | FitFailed | None] = [None] * len(cohort)
    rows: list[Row] = []
    users: list[int] = []
    counts: list[int] = []
    for user, examples in enumerate(cohort):
        encoded = _encoded(base, basis, examples)
        if isinstance(encoded, FitFailed):
            outcomes[user] = encoded
            continue
        rows += encoded
        users.append(user)
        counts.append(len(encoded))
    if rows:
        with attached(base, basis) as live, passes(base, live, rows) as run:
            for user, outcome in zip(users, _descend(live, run, counts, settings or FitSettings()), strict=True):
                outcomes[user] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def _encoded(base: BaseModel, basis: Basis, examples: Sequence[Example]) -> list[Row] | FitFailed:
    if not examples:
        return FitFailed(FitFailure.NO_EXAMPLES)
    try:
        return [encode(base, basis, example) for example in examples]
    except UnknownLabel:
        return FitFailed(FitFailure.UNKNOWN_LABEL)


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
    active: Tensor  # (users,) bool
    finite: Tensor  # (users,) bool


def _descend(live: Attachment, run: Passes, counts: Sequence[int], settings: FitSettings) -> list[Fitted | FitFailed]:
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))  # (rows,)
    prior_mean = live.basis.prior_mean
    state = _start(len(counts), live.basis.spec.dimensions)
    for step in range(settings.steps + 1):
        losses, gradients = run.gradients(state.vectors[owner], state.active[owner])
        total, gradient = _per_user(losses, gradients, counts)
        away = state.vectors - prior_mean
        objective = total + 0.5 * settings.prior * away.square().sum(1)
        gradient = gradient + settings.prior * away
        _judge(state, objective, total / torch.tensor(counts), gradient, settings)
        if step == settings.steps or not bool(state.active.any()):
            break
        _step(state, gradient, settings)
    return [
        Fitted(
            Adapter.of(live.basis, state.best[i]), int(state.steps[i]), float(state.first[i]), float(state.best_loss[i])
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
        active=torch.ones(users, dtype=torch.bool),
        finite=torch.ones(users, dtype=torch.bool),
    )


def _per_user(losses: Tensor, gradients: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Sums over each user's own rows, in their order, whoever else is there: (users,) and (users, d)."""
    totals = torch.stack([part.cumsum(0)[-1] for part in torch.split(losses, list(counts))])
    sums = torch.stack([part.cumsum(0)[-1] for part in torch.split(gradients, list(counts))])
    return totals, sums


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
    progress = state.active & (state.best_objective < state.marked * (1 - settings.tolerance))
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
