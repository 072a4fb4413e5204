"""The members of a cohort at the Trainer: read, fitted in common passes, scored in common passes, and zeroed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import plora
from daemon.clock import monotonic
from daemon.messages import (
    BasisMissing,
    FitAnswer,
    FitRequest,
    Labelled,
    Member,
    MemberFailed,
    MemberFitted,
    Mode,
)
from daemon.models import Models
from policies.promotion import Evidence

Fit = plora.Fitted | plora.FitFailed


@dataclass(frozen=True, slots=True)
class _Place:
    """A member as the library reads it. The first `covered` to learn from are in `statistics`."""

    run: int
    learn: list[plora.Example] = field(repr=False)
    held_out: list[plora.Example] = field(repr=False)
    current: plora.Adapter | None
    unknown_labels: int
    statistics: plora.Statistics | None = field(repr=False)
    covered: int

    @property
    def new(self) -> list[plora.Example]:
        """What the statistics do not cover."""
        return self.learn[self.covered :]


def fit_cohort(models: Models, request: FitRequest) -> FitAnswer | BasisMissing:
    """Fit every member in common passes, then score them in common passes on what each holds out."""
    basis = models.basis(request.basis)
    if basis is None:
        return BasisMissing(request.basis)
    begun = monotonic()
    settings = _settings(request)
    engine = models.engine(basis, plora.Precision(request.precision))
    places = [_place(basis, member, settings) for member in request.members]
    fits: list[Fit] = []
    with engine.keeping():  # scoring reads the texts that were learned from, too
        try:
            fits, modes = _fit(engine, places, settings)
            fitted = monotonic()
            settled = _settle(engine, places, fits, modes)
        finally:
            _zero(places, fits)
    return FitAnswer(settled, fitted - begun, monotonic() - fitted)


def _place(basis: plora.Basis, member: Member, settings: plora.FitSettings) -> _Place:
    learn, held_out = _examples(member.learn), _examples(member.held_out)
    old, new = _known(basis, learn[: member.covered]), _known(basis, learn[member.covered :])
    known_held_out = _known(basis, held_out)
    unknown = len(learn) + len(held_out) - len(old) - len(new) - len(known_held_out)
    current = plora.loads_adapter(member.current) if member.current else None
    comparable = current if current is not None and current.basis == basis.fingerprint else None
    statistics = _statistics(basis, member.statistics, settings)
    return _Place(member.run, [*old, *new], known_held_out, comparable, unknown, statistics, len(old))


def _statistics(basis: plora.Basis, content: bytes | None, settings: plora.FitSettings) -> plora.Statistics | None:
    """None, after which the member is fitted anew, also where they are of another release, Basis or prior."""
    if content is None or settings.optimizer is not plora.Optimizer.NEWTON:
        return None
    try:
        statistics = plora.loads_statistics(content)
    except plora.PLoRAError:
        return None
    fits = statistics.basis == basis.fingerprint and statistics.prior == settings.prior
    return statistics if fits else None


def _known(basis: plora.Basis, examples: list[plora.Example]) -> list[plora.Example]:
    """What this Basis can learn from: it may be older than a label, and one new label must not stop the others."""
    if basis.kind is plora.Kind.CAUSAL_LM:
        return examples
    return [example for example in examples if example.target in basis.labels]


def _fit(engine: plora.Engine, places: Sequence[_Place], settings: plora.FitSettings) -> tuple[list[Fit], list[Mode]]:
    """Refits first; whoever they do not hold for any more is fitted anew with everyone else."""
    base, basis = engine.base, engine.basis
    refits = _refit(engine, places, settings)
    left = [at for at in range(len(places)) if refits.get(at) is None]
    rest = iter(plora.fit(base, basis, [places[at].learn for at in left], settings, engine=engine) if left else ())
    fits = [refits.get(at) or next(rest) for at in range(len(places))]
    return fits, [_mode(refits, at) for at in range(len(places))]


def _mode(refits: dict[int, plora.Fitted | None], at: int) -> Mode:
    if at not in refits:
        return Mode.FULL
    return Mode.MOVED if refits[at] is None else Mode.REFIT


def _refit(
    engine: plora.Engine, places: Sequence[_Place], settings: plora.FitSettings
) -> dict[int, plora.Fitted | None]:
    """By place, of those with statistics; None where these do not hold any more."""
    fits: dict[int, plora.Fitted | None] = {}
    cohort: dict[int, plora.Refit] = {}
    for at, place in enumerate(places):
        if place.statistics is not None and place.new:
            cohort[at] = plora.Refit(place.statistics, place.new)
        elif place.statistics is not None:
            fits[at] = _unchanged(engine.basis, place.statistics)
    if cohort:
        outcomes = plora.refit(engine.base, engine.basis, list(cohort.values()), settings, engine=engine)
        for at, outcome in zip(cohort, outcomes, strict=True):
            fits[at] = _of_all(places[at], outcome) if isinstance(outcome, plora.Fitted) else None
    return fits


def _unchanged(basis: plora.Basis, statistics: plora.Statistics) -> plora.Fitted:
    """What a refit with nothing new would give."""
    adapter = plora.Adapter.of(basis, statistics.vector(basis.prior_mean).float())
    loss = statistics.loss / max(1, statistics.examples)
    return plora.Fitted(adapter, 0, 0.0, loss, loss, statistics=statistics)


def _of_all(place: _Place, fit: plora.Fitted) -> plora.Fitted:
    """With its passes as a share of all examples learnt from, as a full fit counts them."""
    return replace(fit, passes=fit.passes * len(place.new) / len(place.learn))


def _settle(
    engine: plora.Engine, places: Sequence[_Place], fits: Sequence[Fit], modes: Sequence[Mode]
) -> tuple[MemberFitted | MemberFailed, ...]:
    """Each member's outcome, in order."""
    judged: list[plora.Judged] = []
    for place, fit in zip(places, fits, strict=True):
        if isinstance(fit, plora.Fitted) and place.held_out:
            judged += [plora.Judged(adapter, place.learn, place.held_out) for adapter in _contenders(place, fit)]
    scores = iter(plora.score(engine.base, engine.basis, judged, engine=engine) if judged else ())
    members = zip(places, fits, modes, strict=True)
    return tuple(_outcome(place, fit, mode, scores) for place, fit, mode in members)


def _contenders(place: _Place, fit: plora.Fitted) -> list[plora.Adapter]:
    return [fit.adapter] if place.current is None else [fit.adapter, place.current]


def _outcome(place: _Place, fit: Fit, mode: Mode, scores: Iterator[plora.Scores]) -> MemberFitted | MemberFailed:
    """Takes as many of `scores` as the member has contenders."""
    if isinstance(fit, plora.FitFailed):
        return MemberFailed(place.run, fit.reason.value)
    if not place.held_out:
        return MemberFailed(place.run, "nothing_held_out")
    own = next(scores)
    evidence = _evidence(own)
    current = None if place.current is None else _evidence(next(scores))
    if not evidence.is_finite or (current is not None and not current.is_finite):
        return MemberFailed(place.run, "not_finite")  # JSON has no word for it
    return MemberFitted(
        run=place.run,
        base=fit.adapter.base,
        adapter=plora.dumps(fit.adapter),
        scores=_scores(own, fit, mode),
        evidence=evidence,
        current=current,
        unknown_labels=place.unknown_labels,
        mode=mode,
        passes=fit.passes,
        statistics=None if fit.statistics is None else plora.dumps(fit.statistics),
    )


def _scores(own: plora.Scores, fit: plora.Fitted, mode: Mode) -> str:
    """The held-out figures, how the fit went, and its leave-one-out figures where it has them."""
    more: dict[str, object] = {"mode": mode.value, "passes": round(fit.passes, 3)}
    if fit.leave_one_out is not None:
        more["leave_one_out"] = asdict(fit.leave_one_out)
    return json.dumps(asdict(own) | more, sort_keys=True)


def _zero(places: Sequence[_Place], fits: Sequence[Fit]) -> None:
    for place, fit in zip(places, fits, strict=False):
        if place.current is not None:
            place.current.vector.zero_()
        if isinstance(fit, plora.Fitted):
            fit.adapter.vector.zero_()


def _evidence(scores: plora.Scores) -> Evidence:
    return Evidence(
        examples=scores.examples,
        generic_nll=scores.generic.nll,
        label_prior_nll=scores.label_prior.nll,
        wrong_user_nll=scores.wrong_user.nll,
        personal_nll=scores.personal.nll,
        gain_se=scores.gain_se if scores.examples > 1 else 0.0,  # one example has no spread; the bar asks for more
        generic_accuracy=scores.generic.accuracy,
        personal_accuracy=scores.personal.accuracy,
    )


def _settings(request: FitRequest) -> plora.FitSettings:
    chosen = replace(plora.FitSettings(), precision=plora.Precision(request.precision))
    if request.optimizer is not None:
        chosen = replace(chosen, optimizer=plora.Optimizer(request.optimizer))
    if request.steps is not None:
        chosen = replace(chosen, steps=request.steps)
    if request.learning_rate is not None:
        chosen = replace(chosen, rate=request.learning_rate)
    return chosen


def _examples(pairs: Sequence[Labelled]) -> list[plora.Example]:
    return [plora.Example(text, target) for text, target in pairs]
