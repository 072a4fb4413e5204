"""Whether a user still is who their adapter takes them for, told from examples that came after it was made.

How many that takes. Somebody who flips, so that the version loses L nats an example to the generic model with a spread
of s over examples, is rolled back after about (1.28 s / L)^2 of them: 4 (the least that count) for L = 0.5 and s = 0.7,
13 for L = 0.25. Losing P nats to what the version promised is noticed after about (1.64 s / P)^2, more while the
promise itself rests on few examples. They are looked at when a run is due, so the trigger's `min_fresh` comes on top.
"""

from dataclasses import dataclass

from policies.belief import Belief, Measured
from policies.decision import Decision
from policies.facts import finite, share, whole


@dataclass(frozen=True, slots=True)
class Fresh:
    """The version in use on the examples that came since: how much it gains on the generic model, and falls short.

    `shortfall` is its loss there less the loss that it promised when it was made, on what it then was judged on; its
    error covers both. Either is not finite where that is not known.
    """

    gain: Measured
    shortfall: Measured


@dataclass(frozen=True, slots=True)
class Watch:
    """When the examples since a version are held against it. The defaults live here and nowhere else."""

    min_fresh: int = 4  # examples since the version
    certainty: float = 0.9  # P(it loses to the generic model), to roll back
    drift_certainty: float = 0.95  # P(it is worse than promised), to learn only from what came since
    se_floor: float = 0.2  # nats: the least standard deviation of one example's difference that is believed

    def __post_init__(self) -> None:
        whole("Watch.min_fresh", self.min_fresh, least=1)
        share("Watch.certainty", self.certainty)
        share("Watch.drift_certainty", self.drift_certainty)
        finite("Watch.se_floor", self.se_floor)


@dataclass(frozen=True, slots=True)
class Steady(Decision):
    """Go on."""


@dataclass(frozen=True, slots=True)
class Drifted(Decision):
    """Learn from what came since the version alone, if that serves these examples better."""


@dataclass(frozen=True, slots=True)
class RollBack(Decision):
    """Serve the generic model, and learn like `Drifted`."""


def watch(fresh: Fresh | None, bar: Watch) -> Steady | Drifted | RollBack:
    """Decide what the examples since a version say of it; None: no version is in use."""
    if fresh is None:
        return Steady("no version is in use", "nothing_in_use")
    if fresh.gain.examples < bar.min_fresh:
        return Steady(f"{fresh.gain.examples} of {bar.min_fresh} examples since the version", "too_few_fresh")
    if not fresh.gain.is_finite:
        return RollBack("the version's losses are not finite numbers", "not_finite")
    told = f"on {fresh.gain.examples} examples since the version"
    losing = Belief(-fresh.gain.mean, fresh.gain.noise(bar.se_floor)).certainty
    if fresh.gain.mean < 0.0 and losing >= bar.certainty:
        return RollBack(f"it is {_nats(-fresh.gain.mean)} worse than generic {told}: {losing:.2f} certain", "loses")
    return _short(fresh.shortfall, told, bar) or Steady(f"it gains {_nats(fresh.gain.mean)} {told}", "steady")


def _short(shortfall: Measured, told: str, bar: Watch) -> Drifted | None:
    """Whether the version falls short of its promise; None also where there was none."""
    if not shortfall.is_finite or not shortfall.examples:
        return None
    short = Belief(shortfall.mean, shortfall.noise(bar.se_floor)).certainty
    if shortfall.mean > 0.0 and short >= bar.drift_certainty:
        worse = _nats(shortfall.mean)
        return Drifted(f"it is {worse} worse than it promised {told}: {short:.2f} certain", "worse_than_promised")
    return None


@dataclass(frozen=True, slots=True)
class BeginAnew(Decision):
    """What came before does not serve any more: learn from what came since."""


@dataclass(frozen=True, slots=True)
class GoOn(Decision):
    """It still helps."""


def since(whole_nll: float, since_nll: float) -> BeginAnew | GoOn:
    """Decide whether a drifted user begins anew, by what two fits make of the fresh examples, each left out itself.

    whole_nll: of the fit of everything; since_nll: of the fit of the fresh examples alone; NaN where there is none. A
    false alarm costs nothing but the second fit.
    """
    if since_nll < whole_nll:
        return BeginAnew(f"what came since gives {since_nll:.3f} nats, everything {whole_nll:.3f}", "begins_anew")
    return GoOn(f"everything gives {whole_nll:.3f} nats, what came since {since_nll:.3f}", "history_helps")


def _nats(value: float) -> str:
    return f"{value:.3f} nats per example"
