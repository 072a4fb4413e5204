"""The figures as a document, and whether they are what was promised."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.calibration.answers import Held, Worth
from benchmarks.calibration.reasons import Reasons
from benchmarks.leakage.auc import Estimate

WORSE = 0.01
"""Nats an answer by which learning a temperature may make newcomers worse, by chance."""

SURER = 0.7
ALIKE = 0.9
"""The least correlation of reasons with what fitting without each example does."""


@dataclass(frozen=True, slots=True)
class Side:
    """Answers of one kind, as they are and calibrated; `best` is the temperature that would have been best for them."""

    name: str
    before: Worth
    after: Worth
    lowered: Estimate
    best: float
    accuracy: dict[float, float]
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """All figures of one data set."""

    name: str
    people: int
    answers: int
    labels: int
    temperature: float
    learnt_on: int
    sides: tuple[Side, ...]
    reasons: Reasons
    seconds: float

    @property
    def broken(self) -> list[str]:
        """Promises that these figures do not keep."""
        personal = self.sides[0]
        kept = {
            "a learnt temperature makes nobody's answers worse": personal.lowered.high >= -WORSE,
            "the answers given are better than all answers": personal.accuracy[SURER] > personal.accuracy[1.0],
            "reasons are those of a fit without them": self.reasons.correlation >= ALIKE,
        }
        return [f"{self.name}: {promise}" for promise, held in kept.items() if not held]


def facts(found: Sequence[Found]) -> dict[str, object]:
    """For calibration.json; what does not exist is null."""
    broken = [each for one in found for each in one.broken]
    return {"broken": broken, "datasets": [_plain(asdict(each)) for each in found]}


def document(found: Sequence[Found]) -> str:
    """For calibration.md."""
    return "\n".join([*_calibration(found), *_coverage(found), *_held(found), *_reasons(found)])


def _calibration(found: Sequence[Found]) -> list[str]:
    lines = [
        "| data set, answers of | temperature (best) | NLL | Brier | calibration error | NLL lowered by |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.name}, {side.name} | {each.temperature:.2f} ({side.best:.2f}) "
        f"| {side.before.nll:.3f} -> {side.after.nll:.3f} | {side.before.brier:.3f} -> {side.after.brier:.3f} "
        f"| {side.before.ece:.3f} -> {side.after.ece:.3f} "
        f"| {side.lowered.value:.4f} [{side.lowered.low:.4f}, {side.lowered.high:.4f}] |"
        for each in found
        for side in each.sides
    ]
    return [*lines, ""]


def _coverage(found: Sequence[Found]) -> list[str]:
    shares = list(found[0].sides[0].accuracy)
    lines = [f"| accuracy of the surest | {' | '.join(f'{share:.0%}' for share in shares)} |"]
    lines.append("|---" * (len(shares) + 1) + "|")
    for each in found:
        side = each.sides[0]
        lines.append(f"| {each.name} | {' | '.join(f'{side.accuracy[share]:.3f}' for share in shares)} |")
    return [*lines, ""]


def _held(found: Sequence[Found]) -> list[str]:
    floors = [each.floor for each in found[0].sides[0].held]
    lines = [f"| held share, accuracy of given / of held | {' | '.join(f'below {floor:g}' for floor in floors)} |"]
    lines.append("|---" * (len(floors) + 1) + "|")
    for each in found:
        cells = [f"{one.share:.0%}, {_number(one.given)} / {_number(one.held)}" for one in each.sides[0].held]
        lines.append(f"| {each.name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _reasons(found: Sequence[Found]) -> list[str]:
    lines = ["| reasons | answers | correlation | first is first | first among three | s an answer |"]
    lines.append("|---|---|---|---|---|---|")
    lines += [
        f"| {each.name} | {each.reasons.answers} | {each.reasons.correlation:.3f} | {each.reasons.first:.0%} "
        f"| {each.reasons.among_three:.0%} | {each.reasons.seconds:.3f} |"
        for each in found
    ]
    return [*lines, ""]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
