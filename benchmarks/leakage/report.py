"""The figures as a document: one table for each question."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.leakage.auc import Estimate
from benchmarks.leakage.audit import BasisTold, Told
from benchmarks.leakage.cost import Cost

LOW, HIGH = 0.45, 0.55
"""Between these a score tells nothing: what the cross-user AUC is held to."""


@dataclass(frozen=True, slots=True)
class Found:
    """All figures of one data set. `missed` is how far curves miss the model, in nats."""

    name: str
    people: int
    canaries: int
    seconds: float
    missed: float
    told: tuple[Told, ...]
    basis: BasisTold
    costs: tuple[Cost, ...]

    @property
    def isolated(self) -> bool:
        """Whether no user's adapter knows another user's canaries."""
        return all(LOW <= each.cross.value <= HIGH for each in self.told)


def facts(found: Sequence[Found]) -> dict[str, object]:
    """For leakage.json, which has no word for infinity: it is null, and no privacy has no epsilon at all."""
    return {"isolated": all(each.isolated for each in found), "datasets": [_plain(asdict(each)) for each in found]}


def document(found: Sequence[Found]) -> str:
    """For leakage.md."""
    return "\n".join(line for each in found for line in [*_canaries(each), *_cost(each)])


def _canaries(found: Found) -> list[str]:
    lines = [
        f"## {found.name}: {found.people} newcomers with {found.canaries} canaries each ({found.seconds:.0f} s)",
        "",
        "| epsilon | another user's canaries, AUC | rank raised beside twins | own canaries, AUC |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {named(each.epsilon)} | {_told(each.cross)} | {_told(each.raised)} | {_told(each.own)} |"
        for each in found.told
    ]
    return [
        *lines,
        "",
        f"The Basis and its population's canaries: AUC {_told(found.basis.plain)} by loss, "
        f"{_told(found.basis.calibrated)} against a Basis trained without them. "
        f"Read from curves that miss the model by {found.missed:.1e} nats at most.",
        "",
    ]


def _cost(found: Found) -> list[str]:
    shown = list(dict.fromkeys(each.shots for each in found.costs))
    head = " | ".join(f"{shots} examples" for shots in shown)
    lines = ["Gain over generic on held-out texts, nats per example, and own-member AUC:", "", f"| epsilon | {head} |"]
    lines.append("|---" * (len(shown) + 1) + "|")
    for epsilon in dict.fromkeys(each.epsilon for each in found.costs):
        cells = [
            f"{each.gain.value:.3f} [{each.gain.low:.3f}, {each.gain.high:.3f}], {each.own.value:.2f}"
            for each in found.costs
            if each.epsilon == epsilon
        ]
        lines.append(f"| {named(epsilon)} | {' | '.join(cells)} |")
    return [*lines, ""]


def named(epsilon: float | None) -> str:
    """How an epsilon is written in tables."""
    if epsilon is None:
        return "no privacy"
    return "clip only" if epsilon == math.inf else f"{epsilon:g}"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if name != "epsilon" or each is not None}
        return {name: _plain(each) for name, each in kept.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return None if value == math.inf else value


def _told(each: Estimate) -> str:
    return f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"
