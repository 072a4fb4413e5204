"""Calibration: probabilities that say how often an answer is right.

One temperature for all answers of a Basis (Guo et al., ICML 2017): p_k^(1/T), made to sum to one again. T > 1 makes
answers less sure, and no T changes which label is likeliest. It is learnt where it is used: on adapters' answers to
examples that taught neither the adapter nor the Basis.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import InvalidSetting

LEAST = 1e-12
LOWEST, HIGHEST = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature, and on how many answers it was learnt: 0 for one that changes nothing."""

    temperature: float = 1.0
    answers: int = 0

    def __post_init__(self) -> None:
        if not LOWEST <= self.temperature <= HIGHEST:
            raise InvalidSetting("temperature", f"from {LOWEST} to {HIGHEST}")

    def of(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """The probabilities as sure as they should be."""
        if self.temperature == 1.0 or not probabilities:
            return dict(probabilities)
        powers = [math.log(max(chance, LEAST)) / self.temperature for chance in probabilities.values()]
        most = max(powers)
        shares = [math.exp(power - most) for power in powers]
        total = sum(shares)
        return {label: share / total for label, share in zip(probabilities, shares, strict=True)}


def calibrate(answers: Sequence[tuple[Sequence[float], int]]) -> Calibration:
    """The temperature with the least mean negative log-likelihood of (probabilities, which was right).

    By golden-section search on log T, in which that mean has one valley. No answers: one that changes nothing.
    """
    if not answers:
        return Calibration()
    logs = [([math.log(max(chance, LEAST)) for chance in chances], right) for chances, right in answers]
    low, high = math.log(LOWEST), math.log(HIGHEST)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _cost(logs, left) <= _cost(logs, right):
            high = right
        else:
            low = left
    return Calibration(math.exp((low + high) / 2), len(answers))


def expected_error(answers: Sequence[tuple[float, bool]], bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over bins of equal numbers of (confidence, was it right)."""
    if not answers:
        return math.nan
    ordered = sorted(answers)
    gap, size = 0.0, max(1, -(-len(ordered) // bins))
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        sure = sum(confidence for confidence, _ in part) / len(part)
        right = sum(was_right for _, was_right in part) / len(part)
        gap += len(part) / len(ordered) * abs(sure - right)
    return gap


def _cost(logs: Sequence[tuple[Sequence[float], int]], log_temperature: float) -> float:
    """Mean nats at a temperature."""
    scale = math.exp(-log_temperature)
    total = 0.0
    for row, right in logs:
        most = max(row) * scale
        total += most + math.log(sum(math.exp(each * scale - most) for each in row)) - row[right] * scale
    return total / len(logs)
