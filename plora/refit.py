"""Refit: new examples added to a fitted vector in one pass over them alone, not over the history."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .adapter import Adapter
from .basemodel import BaseModel
from .basis import Basis
from .curves import Curves, by_user, curves
from .engine import Engine
from .errors import InvalidSetting
from .evidence import Contender, Evidence, evidence
from .examples import Example, Row
from .fitting import checked, encoded
from .outcome import FitFailed, FitFailure, FitSettings, Fitted
from .passes import Passes, with_room
from .statistics import Statistics, newton_moves

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

    The old examples are the parabola of their statistics, taken where their fit ended: near there the result is the fit
    of all examples. `passes`, `loss_before`, `loss` and `left_out` are of the new examples. Statistics of another Basis
    or prior weight fail as WRONG_BASIS. Raises InvalidSetting with privacy: statistics are told without noise.
    """
    chosen = settings or FitSettings()
    if chosen.privacy is not None:
        raise InvalidSetting("privacy of a refit", "None: with privacy fit all of a user's examples anew")
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
    around = curves(run, torch.zeros(run.count, basis.spec.dimensions), directions=settings.directions)
    found = around.moved(point[owner])
    losses = by_user(found.losses, owner, users)
    gradients, information = by_user(found.gradients, owner, users), by_user(found.information, owner, users)
    finite = torch.isfinite(losses) & torch.isfinite(gradients).all(1) & torch.isfinite(information).flatten(1).all(1)
    grown = [
        each.plus(counts[u], float(losses[u]), gradients[u], information[u]) if finite[u] else each
        for u, each in enumerate(known)
    ]
    vectors = torch.stack([each.vector(basis.prior_mean).float() for each in grown])
    each_true = run.losses(vectors[owner]).double()
    each_expected = found.losses_at((vectors.double() - point)[owner])
    true, expected = by_user(each_true, owner, users), by_user(each_expected, owner, users)
    told = _left_out((around, found), owner, grown, missed=each_true - each_expected, basis=basis)
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
                left_out=told[user].whole,
                left_out_losses=told[user].losses,
                generic_losses=told[user].generic,
                statistics=grown[user],
            )
        )
    return outcomes


def _left_out(
    seen: tuple[Curves, Curves], owner: Tensor, grown: Sequence[Statistics], *, missed: Tensor, basis: Basis
) -> list[Evidence]:
    """For each user what the new examples would have cost, each without itself; their curves around nobody and here.

    The label bias that `lead` is over is that of the same vector.
    """
    around, found = seen
    point, gradient, information = (
        torch.stack([getattr(each, name) for each in grown])[owner] for name in ("point", "gradient", "information")
    )
    prior = torch.tensor([each.prior for each in grown], dtype=torch.float64)[owner]
    pull = prior[:, None] * (point - basis.prior_mean.double())
    moves = newton_moves(information - found.information, gradient - found.gradients + pull, prior)
    full = Contender(point + moves, torch.nan_to_num(missed))
    alone = Contender(basis.label_bias(full.vectors), torch.zeros_like(missed)) if basis.spec.bias else None
    everyone = torch.ones(len(owner), dtype=torch.bool)
    return evidence(around, owner, (full, alone), judged=everyone, basis=basis)


def _travel(before: Statistics, after: Statistics, mean: Tensor) -> float:
    move = after.vector(mean) - before.vector(mean)
    bend = before.information @ move + before.prior * move
    return float((move @ bend).clamp_min(0).sqrt() / len(move) ** 0.5)
