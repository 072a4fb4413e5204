"""Refit: new examples added to a fitted vector in one pass over them alone, not over the history."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .adapter import Adapter
from .basemodel import BaseModel
from .basis import Basis
from .curves import by_user, curves
from .engine import Engine
from .examples import Example, Row
from .fitting import checked, encoded
from .outcome import FitFailed, FitFailure, FitSettings, Fitted
from .passes import Passes, with_room
from .statistics import Statistics

TOKENS_PER_BATCH = 128
"""Tokens in one micro-batch: new examples come one at a time, and blanks would cost more than they."""

SURPRISE = 1.0
"""Nats per new example by which the true loss may miss the foreseen one before the old parabolas are given up."""

TRAVEL = 3.0
"""How far a vector may go from the fitted one, in its own posterior's standard deviations per root of d."""


@dataclass(frozen=True, slots=True)
class Refit:
    """A user's statistics so far, and the examples that are not in them."""

    statistics: Statistics = field(repr=False)
    new: Sequence[Example] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Moved:
    """The parabolas no longer hold where the vector wants to go: fit the user's whole history.

    `surprise` is in nats per new example, `travel` in posterior standard deviations per root of d.
    """

    surprise: float
    travel: float


def refit(
    base: BaseModel,
    basis: Basis,
    cohort: Sequence[Refit],
    settings: FitSettings | None = None,
    *,
    engine: Engine | None = None,
) -> list[Fitted | Moved | FitFailed]:
    """Each user's vector with their new examples; only those are run. One outcome for each user, in order.

    Where the statistics were taken around the generic model, as after a fit of one step, the result is that fit's on
    all examples, to rounding. `passes`, `loss_before` and `loss` are of the new examples. Statistics of another Basis
    or prior weight fail as WRONG_BASIS.
    """
    chosen = settings or FitSettings()
    made = checked(engine, basis) or Engine(base, basis, chosen.precision)
    prepared = [_rows(base, basis, each, chosen) for each in cohort]
    users = [rows for rows in prepared if not isinstance(rows, FitFailed)]
    known = [each.statistics for each, rows in zip(cohort, prepared, strict=True) if not isinstance(rows, FitFailed)]
    found: list[Fitted | Moved | FitFailed] = []
    if users:
        found = with_room(made, users, lambda run, counts: _add(run, counts, known, chosen), TOKENS_PER_BATCH)
    rest = iter(found)
    return [rows if isinstance(rows, FitFailed) else next(rest) for rows in prepared]


def _rows(base: BaseModel, basis: Basis, each: Refit, settings: FitSettings) -> tuple[Row, ...] | FitFailed:
    if each.statistics.basis != basis.fingerprint or each.statistics.prior != settings.prior:
        return FitFailed(FitFailure.WRONG_BASIS)
    return encoded(base, basis, each.new)


def _add(
    run: Passes, counts: Sequence[int], known: Sequence[Statistics], settings: FitSettings
) -> list[Fitted | Moved | FitFailed]:
    basis, users = run.engine.basis, len(counts)
    owner = torch.repeat_interleave(torch.arange(users), torch.tensor(counts))
    point = torch.stack([each.point for each in known])
    found = curves(run, point[owner].float(), directions=settings.directions)
    losses = by_user(found.losses, owner, users)
    gradients, information = by_user(found.gradients, owner, users), by_user(found.information, owner, users)
    finite = torch.isfinite(losses) & torch.isfinite(gradients).all(1) & torch.isfinite(information).flatten(1).all(1)
    grown = [
        each.plus(counts[u], float(losses[u]), gradients[u], information[u]) if finite[u] else each
        for u, each in enumerate(known)
    ]
    vectors = torch.stack([each.vector(basis.prior_mean).float() for each in grown])
    true = by_user(run.losses(vectors[owner]).double(), owner, users)
    expected = by_user(found.losses_at((vectors.double() - point)[owner]), owner, users)
    surprise = (true - expected).abs() / torch.tensor(counts)
    outcomes: list[Fitted | Moved | FitFailed] = []
    for user in range(users):
        if not bool(finite[user]):
            outcomes.append(FitFailed(FitFailure.NOT_FINITE))
            continue
        travel = _travel(known[user], grown[user], basis.prior_mean)
        if not float(surprise[user]) <= SURPRISE or not travel <= TRAVEL:
            outcomes.append(Moved(float(surprise[user]), travel))
            continue
        outcomes.append(
            Fitted(
                adapter=Adapter.of(basis, vectors[user]),
                steps=1,
                passes=found.passes + 0.5,
                loss_before=float(losses[user]) / counts[user],
                loss=float(true[user]) / counts[user],
                statistics=grown[user],
            )
        )
    return outcomes


def _travel(before: Statistics, after: Statistics, mean: Tensor) -> float:
    move = after.vector(mean) - before.vector(mean)
    bend = before.information @ move + before.prior * move
    return float((move @ bend).clamp_min(0).sqrt() / len(move) ** 0.5)
