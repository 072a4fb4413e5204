"""The canary audit: each newcomer learns canaries; who else's model knows them, and how well does their own?"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

import plora
from benchmarks.leakage.auc import Estimate, across, auc, over_people
from benchmarks.leakage.canaries import Canaries
from benchmarks.leakage.curved import checked, curves_of, gains, ranks, vectors_of
from plora import Adapter, Engine, Example, FitSettings, Fitted, Privacy
from plora.curves import LabelCurves


@dataclass(frozen=True, slots=True)
class Told:
    """`epsilon` None: no privacy. `raised` is how many more canaries than twins rise in rank under others' adapters.

    A share, less the same share under adapters of people who learned no canaries at all: some texts rise under any.
    Its interval is over the canaries' owners.
    """

    epsilon: float | None
    cross: Estimate
    own: Estimate
    raised: Estimate


@dataclass(frozen=True, slots=True)
class BasisTold:
    """Whether the Basis tells its population's canaries from their twins, by loss and by loss against another Basis."""

    plain: Estimate
    calibrated: Estimate


def audit(
    engine: Engine, learn: Sequence[Sequence[Example]], marked: Sequence[Canaries], epsilons: Sequence[float | None]
) -> tuple[list[Told], float]:
    """For each epsilon; and by how much the curves that all this is read from miss the model, in nats."""
    learned = curves_of(engine, [each for one in marked for each in one.learned])
    twins = curves_of(engine, [each for one in marked for each in one.twins])
    cohort = [[*examples, *one.learned] for examples, one in zip(learn, marked, strict=True)]
    told, missed = [], 0.0
    for epsilon in epsilons:
        adapters = fit_all(engine, cohort, epsilon)
        if epsilon is None and adapters[0] is not None:
            missed = checked(engine, adapters[0], [*cohort[0], *marked[-1].learned])
        vectors = vectors_of(engine.basis, adapters)
        innocent = vectors_of(engine.basis, fit_all(engine, learn, epsilon))
        shape = (len(cohort), len(marked), len(marked[0].learned))
        here, there = (gains(found, vectors).reshape(shape) for found in (learned, twins))
        own = [auc(here[user, user], there[user, user]) for user in range(len(cohort))]
        more, before = ((_raised(learned, side) - _raised(twins, side)).reshape(shape) for side in (vectors, innocent))
        told.append(Told(epsilon, across(here, there), over_people(own), over_people(_others(more - before))))
    return told, missed


def basis_audit(engine: Engine, other: Engine, marked: Sequence[Canaries]) -> BasisTold:
    """`engine`'s Basis was trained with the canaries, `other`'s on the same people without them."""
    sides: dict[str, Tensor] = {}
    for name, picked in (("learned", [one.learned for one in marked]), ("twins", [one.twins for one in marked])):
        rows = [each for one in picked for each in one]
        sides[name] = -curves_of(engine, rows).losses.reshape(len(marked), -1)
        sides[f"{name} before"] = -curves_of(other, rows).losses.reshape(len(marked), -1)
    plain = [auc(a, b) for a, b in zip(sides["learned"], sides["twins"], strict=True)]
    learned, twins = (sides[name] - sides[f"{name} before"] for name in ("learned", "twins"))
    calibrated = [auc(a, b) for a, b in zip(learned, twins, strict=True)]
    return BasisTold(over_people(plain), over_people(calibrated))


def fit_all(
    engine: Engine, cohort: Sequence[Sequence[Example]], epsilon: float | None, seed: int = 0
) -> list[Adapter | None]:
    """Everyone's adapter; noise from a seed, so that a figure can be had again."""
    privacy = None if epsilon is None else Privacy(epsilon, source=Random(f"{epsilon}:{seed}"))
    outcomes = plora.fit(engine.base, engine.basis, cohort, FitSettings(privacy=privacy), engine=engine)
    return [outcome.adapter if isinstance(outcome, Fitted) else None for outcome in outcomes]


def _raised(found: LabelCurves, vectors: Tensor) -> Tensor:
    """(vectors, rows) whether the row's own label stands higher than with the generic model."""
    nobody = ranks(found, torch.zeros(1, vectors.shape[1]))
    return (ranks(found, vectors) < nobody).double()


def _others(found: Tensor) -> list[float]:
    """For each owner the mean of (adapters, owners, canaries) over everybody else's adapters."""
    theirs = 1.0 - torch.eye(len(found), dtype=torch.float64)
    means: list[float] = ((found.mean(2) * theirs).sum(0) / theirs.sum(0)).tolist()
    return means
