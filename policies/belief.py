"""What a measured gain is believed to be: a few examples are weighed against what users of the same Basis gain.

Normal-normal shrinkage. A user's true gain is taken for a draw from N(expected, sd), and what was measured for a draw
around it whose spread is the noise of so few examples; both together give a normal posterior. Four examples move it a
little, sixty-four a lot.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from policies.facts import finite, whole


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean difference over `examples`, in nats per example, and its standard error; NaN where one has no spread."""

    mean: float
    se: float
    examples: int

    def __post_init__(self) -> None:
        whole("Measured.examples", self.examples)
        if math.isfinite(self.se):
            finite("Measured.se", self.se)

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.mean) and not math.isinf(self.se)

    def noise(self, floor: float) -> float:
        """How far chance may have moved the mean, in nats. `floor` is the least spread of one example believed.

        A few differences that happen to agree have a measured spread of nearly zero: that is luck, not certainty.
        """
        least = floor / math.sqrt(max(1, self.examples))
        return least if math.isnan(self.se) else max(self.se, least)


@dataclass(frozen=True, slots=True)
class Expected:
    """What users of a Basis gain over the generic model, and what their content adds: means and spreads, in nats."""

    gain: float = 0.0
    gain_sd: float = 0.15
    lead: float = 0.0
    lead_sd: float = 0.15

    def __post_init__(self) -> None:
        finite("Expected.gain", self.gain, least=-math.inf)
        finite("Expected.gain_sd", self.gain_sd)
        finite("Expected.lead", self.lead, least=-math.inf)
        finite("Expected.lead_sd", self.lead_sd)


@dataclass(frozen=True, slots=True)
class Belief:
    """A normal posterior, in nats per example."""

    mean: float
    sd: float

    @property
    def certainty(self) -> float:
        """P(it is above 0); a half where nothing is known."""
        if self.sd == 0.0:
            return 0.5 + 0.5 * ((self.mean > 0) - (self.mean < 0))
        return 0.5 * (1.0 + math.erf(self.mean / self.sd / math.sqrt(2.0)))


def believe(measured: Measured, mean: float, sd: float, floor: float) -> Belief:
    """The posterior of what was `measured` where users are spread as N(mean, sd)."""
    noise = measured.noise(floor)
    if noise == 0.0 or not measured.examples:
        return Belief(measured.mean, 0.0) if measured.examples else Belief(mean, sd)
    trust = (sd / math.hypot(sd, noise)) ** 2  # how much of the way to what was measured
    return Belief(mean + trust * (measured.mean - mean), noise * math.sqrt(trust))


def spread(found: Sequence[Measured], least_sd: float) -> tuple[float, float]:
    """Mean and true spread over users by the method of moments: the observed variance less what noise explains.

    Neither is finite where the numbers are too large to be added up.
    """
    means = [each.mean for each in found]
    mean = sum(means) / len(means)
    observed = sum((each - mean) * (each - mean) for each in means) / max(1, len(means) - 1)
    errors = [0.0 if math.isnan(each.se) else each.se for each in found]
    noise = sum(each * each for each in errors) / len(errors)
    return mean, math.sqrt(max(observed - noise, least_sd * least_sd))
