"""What privacy costs: the gain over the generic model on texts nobody learned, and how well members are told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.leakage.auc import Estimate, auc, over_people
from benchmarks.leakage.audit import fit_all
from benchmarks.leakage.curved import curves_of, gains, vectors_of
from benchmarks.leakage.people import Person
from plora import Engine

SHOTS = (8, 16, 32, 64)
STRANGERS = 12
"""Rows of each person that are never learned: to them the learned ones are compared."""

LEAST_PEOPLE = 10
"""A number of shots that fewer people have rows for is left out."""


@dataclass(frozen=True, slots=True)
class Cost:
    """`gain` in nats per example; `own` is the AUC of members against the person's other rows of the same split."""

    shots: int
    epsilon: float | None
    gain: Estimate
    own: Estimate


def costs(engine: Engine, newcomers: Sequence[Person], epsilons: Sequence[float | None], draws: int) -> list[Cost]:
    """For every number of shots and every epsilon, among all who have the rows; noise is drawn so many times."""
    found = []
    for shots in SHOTS:
        fit_for = [one for one in newcomers if len(one.learn) >= shots + STRANGERS and one.test]
        if len(fit_for) < LEAST_PEOPLE:
            continue
        judged = [curves_of(engine, one.test) for one in fit_for]
        strangers = [curves_of(engine, one.learn[-STRANGERS:]) for one in fit_for]
        members = [curves_of(engine, one.learn[:shots]) for one in fit_for]
        cohort = [one.learn[:shots] for one in fit_for]
        for epsilon in epsilons:
            times = draws if epsilon is not None and epsilon < math.inf else 1
            drawn = [vectors_of(engine.basis, fit_all(engine, cohort, epsilon, seed)) for seed in range(times)]
            vectors = torch.stack(drawn, 1)  # (people, draws, d)
            gain = [float(gains(one, own).mean()) for one, own in zip(judged, vectors, strict=True)]
            told = [
                sum(auc(gains(here, v[None])[0], gains(there, v[None])[0]) for v in own) / times
                for here, there, own in zip(members, strangers, vectors, strict=True)
            ]
            found.append(Cost(shots, epsilon, over_people(gain), over_people(told)))
    return found
