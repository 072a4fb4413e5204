"""The members of a cohort at the Trainer: read, fitted in common passes, held against what serves, and zeroed."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

import plora
from daemon import scores as documents
from daemon.clock import monotonic
from daemon.freshness import fresh_losses, moved
from daemon.messages import (
    BasisMissing,
    FitAnswer,
    FitRequest,
    FreshLoss,
    MemberFailed,
    MemberFitted,
    Mode,
    Offer,
)
from daemon.models import Models
from daemon.pace import tokens_of
from daemon.places import Place, place_of
from daemon.promises import Kept, Promise

Fit = plora.Fitted | plora.FitFailed


def fit_cohort(models: Models, request: FitRequest) -> FitAnswer | BasisMissing:
    """Fit every member in common passes, then judge them in common passes."""
    basis = models.basis(request.basis)
    if basis is None:
        return BasisMissing(request.basis)
    begun = monotonic()
    settings = _settings(request)
    engine = models.engine(basis, plora.Precision(request.precision))
    places = [place_of(basis, member, settings) for member in request.members]
    fits: list[Fit] = []
    with engine.keeping():  # judging reads the texts that were learned from, too
        try:
            fits, modes = _fit(engine, places, settings)
            fitted = monotonic()
            settled = _settle(engine, places, fits, modes, settings.privacy)
        finally:
            _zero(places, fits)
    scored = monotonic()
    texts = [text for member in request.members for text, _ in member.learn[member.covered :]]
    tokens = sum(tokens_of(models.base, texts))
    return FitAnswer(settled, fitted - begun, scored - fitted, tokens, models.pace(texts))


def _fit(engine: plora.Engine, places: Sequence[Place], settings: plora.FitSettings) -> tuple[list[Fit], list[Mode]]:
    """Refits first; whoever they do not hold for any more is fitted anew with everyone else."""
    refits = _refit(engine, places, settings)
    left = [places[at] for at in range(len(places)) if refits.get(at) is None]
    rest = iter(_fit_anew(engine, left, settings))
    fits = [refits.get(at) or next(rest) for at in range(len(places))]
    return fits, [_mode(refits, at) for at in range(len(places))]


def _fit_anew(engine: plora.Engine, places: Sequence[Place], settings: plora.FitSettings) -> list[Fit]:
    if not places:
        return []
    learn, judged = [each.learn for each in places], [each.judged for each in places]
    return list(plora.fit(engine.base, engine.basis, learn, settings, engine=engine, judged=judged))


def _mode(refits: dict[int, plora.Fitted | None], at: int) -> Mode:
    if at not in refits:
        return Mode.FULL
    return Mode.MOVED if refits[at] is None else Mode.REFIT


def _refit(
    engine: plora.Engine, places: Sequence[Place], settings: plora.FitSettings
) -> dict[int, plora.Fitted | None]:
    """By place, of those with statistics; None where these do not hold any more."""
    fits: dict[int, plora.Fitted | None] = {}
    cohort: dict[int, plora.Refit] = {}
    for at, each in enumerate(places):
        if each.statistics is not None and each.new:
            cohort[at] = plora.Refit(each.statistics, each.new)
        elif each.statistics is not None and each.kept is not None:
            fits[at] = _unchanged(engine.basis, each.statistics, each.kept)
    if cohort:
        outcomes = plora.refit(engine.base, engine.basis, list(cohort.values()), settings, engine=engine)
        for at, outcome in zip(cohort, outcomes, strict=True):
            fits[at] = _of_all(places[at], outcome) if isinstance(outcome, plora.Fitted) else None
    return fits


def _unchanged(basis: plora.Basis, statistics: plora.Statistics, kept: plora.Scores) -> plora.Fitted:
    """What a refit with nothing new would give."""
    adapter = plora.Adapter.of(basis, statistics.vector(basis.prior_mean).float())
    loss = statistics.loss / max(1, statistics.examples)
    return plora.Fitted(adapter, 0, 0.0, loss, loss, left_out=kept, statistics=statistics)


def _of_all(place: Place, fit: plora.Fitted) -> plora.Fitted:
    """With its passes as a share of all examples learnt from, as a full fit counts them, and with what was kept."""
    passes = fit.passes * len(place.new) / len(place.learn)
    if fit.left_out is None or place.kept is None:
        return replace(fit, passes=passes)
    return replace(fit, passes=passes, left_out=place.kept.plus(fit.left_out))


def _settle(
    engine: plora.Engine,
    places: Sequence[Place],
    fits: Sequence[Fit],
    modes: Sequence[Mode],
    privacy: plora.Privacy | None,
) -> tuple[MemberFitted | MemberFailed, ...]:
    """Each member's outcome, in order."""
    held_out = _held_out(engine, places, fits)
    fresh = fresh_losses(engine, places, fits)
    outcomes = [
        _outcome(engine.basis, place, fit, mode, (held_out.get(at), losses))
        for at, (place, fit, mode, losses) in enumerate(zip(places, fits, modes, fresh, strict=True))
    ]
    if privacy is None:
        return tuple(outcomes)
    return tuple(
        replace(each, privacy=_kept(privacy, place.spent)) if isinstance(each, MemberFitted) else each
        for each, place in zip(outcomes, places, strict=True)
    )


def _kept(privacy: plora.Privacy, spent: float | None) -> Kept:
    promise = Promise(privacy.epsilon, privacy.delta, privacy.clip)
    if spent is None:
        return Kept(promise, None, None)
    total = privacy.after(spent)
    return Kept(promise, total if math.isfinite(total) else None, spent + privacy.mu**2)


def _outcome(
    basis: plora.Basis,
    place: Place,
    fit: Fit,
    mode: Mode,
    judged: tuple[plora.Scores | None, tuple[FreshLoss, ...]],
) -> MemberFitted | MemberFailed:
    """`judged`: its scores on what is held out, and its fresh losses."""
    if isinstance(fit, plora.FitFailed):
        return MemberFailed(place.run, fit.reason.value)
    own = fit.left_out or judged[0]
    if own is None:
        return MemberFailed(place.run, "nothing_held_out")
    losses = (loss for each in judged[1] for loss in (each.generic, each.current, each.candidate))
    if not documents.is_finite(own) or not all(map(math.isfinite, losses)):
        return MemberFailed(place.run, "not_finite")
    return MemberFitted(
        run=place.run,
        base=fit.adapter.base,
        whole=_offer(basis, place, fit.adapter, own),
        label_bias=None if fit.bias is None else _offer(basis, place, fit.bias.adapter, fit.bias.left_out),
        fresh=judged[1],
        unknown_labels=place.unknown_labels,
        mode=mode,
        passes=fit.passes,
        statistics=None if fit.statistics is None else plora.dumps(fit.statistics),
    )


def _held_out(engine: plora.Engine, places: Sequence[Place], fits: Sequence[Fit]) -> dict[int, plora.Scores]:
    """By place, of the fits that cannot judge an example by the others."""
    members = enumerate(zip(places, fits, strict=True))
    judged = {
        at: plora.Judged(fit.adapter, place.learn, place.held_out)
        for at, (place, fit) in members
        if isinstance(fit, plora.Fitted) and fit.left_out is None and place.held_out
    }
    if not judged:
        return {}
    found = plora.score(engine.base, engine.basis, list(judged.values()), engine=engine)
    return dict(zip(judged, found, strict=True))


def _offer(basis: plora.Basis, place: Place, adapter: plora.Adapter, own: plora.Scores) -> Offer:
    nobody = torch.zeros(basis.spec.dimensions)
    now = nobody if place.current is None else place.current.vector
    return Offer(
        plora.dumps(adapter),
        documents.dumps(own),
        moved=moved(basis, adapter.vector, now),
        from_generic=moved(basis, adapter.vector, nobody),
    )


def _zero(places: Sequence[Place], fits: Sequence[Fit]) -> None:
    for place, fit in zip(places, fits, strict=False):
        if place.current is not None:
            place.current.vector.zero_()
        if place.statistics is not None:
            _zero_statistics(place.statistics)
        if isinstance(fit, plora.Fitted):
            fit.adapter.vector.zero_()
            if fit.statistics is not None:
                _zero_statistics(fit.statistics)
            if fit.bias is not None:
                fit.bias.adapter.vector.zero_()


def _zero_statistics(statistics: plora.Statistics) -> None:
    for part in (statistics.point, statistics.gradient, statistics.information):
        part.zero_()


def _settings(request: FitRequest) -> plora.FitSettings:
    chosen = replace(plora.FitSettings(), precision=plora.Precision(request.precision))
    if request.optimizer is not None:
        chosen = replace(chosen, optimizer=plora.Optimizer(request.optimizer))
    if request.steps is not None:
        chosen = replace(chosen, steps=request.steps)
    if request.learning_rate is not None:
        chosen = replace(chosen, rate=request.learning_rate)
    if request.privacy is not None:
        asked = request.privacy
        chosen = replace(chosen, privacy=plora.Privacy(asked.epsilon, asked.delta, asked.clip))
    return chosen
