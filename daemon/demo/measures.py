"""The demo's arithmetic: accuracy, likelihood, the label-prior control, percentiles."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.demo.crowd import Labelled

SMOOTHING = 2.0
"""As in plora.controls: pseudo-examples of the generic model's own label shares."""

CONTROLS = ("generic", "label_prior", "wrong_user", "personal")
Chances = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """One user's unseen examples under one control: share right, and mean nats."""

    examples: int
    accuracy: float
    nll: float


def figures(rows: Sequence[Labelled], chances: Sequence[Chances]) -> Figures:
    """`chances` holds each row's label probabilities."""
    hits = [
        max(shares, key=lambda label: shares[label]) == row.label for row, shares in zip(rows, chances, strict=True)
    ]
    losses = [-math.log(max(shares.get(row.label, 0.0), 1e-9)) for row, shares in zip(rows, chances, strict=True)]
    return Figures(len(rows), sum(hits) / len(rows), sum(losses) / len(rows))


def label_prior(unseen: Sequence[Chances], told: Sequence[Labelled], on_told: Sequence[Chances]) -> list[Chances]:
    """The generic answers with their label shares moved to the user's smoothed ones (the told examples')."""
    labels = list(unseen[0])
    mean = {label: max(1e-6, sum(shares[label] for shares in on_told) / len(on_told)) for label in labels}
    n = len(told)
    weight = {
        label: (sum(row.label == label for row in told) + SMOOTHING * mean[label]) / (n + SMOOTHING) / mean[label]
        for label in labels
    }
    moved: list[Chances] = []
    for shares in unseen:
        weighed = {label: shares[label] * weight[label] for label in labels}
        total = sum(weighed.values())
        moved.append({label: value / total for label, value in weighed.items()})
    return moved


def mean_of(parts: Sequence[Figures]) -> Figures:
    """Over users, each user's figures counting the same."""
    n = max(1, len(parts))
    return Figures(
        sum(part.examples for part in parts),
        sum(part.accuracy for part in parts) / n,
        sum(part.nll for part in parts) / n,
    )


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p95 and p99 by the nearest rank; null where there is nothing to rank."""
    ordered = sorted(values)
    return {
        f"p{share}": round(ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)], 3) if ordered else None
        for share in (50, 95, 99)
    }
