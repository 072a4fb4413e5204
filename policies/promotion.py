"""Whether a candidate version may serve its user. All measures are on held-out examples; nll is in nats per example."""

import math
from dataclasses import dataclass

from policies.decision import Decision
from policies.facts import finite, whole


@dataclass(frozen=True, slots=True)
class Evidence:
    """How one version did beside its three controls, on the same held-out examples.

    A measure may be NaN or infinite, since a fit may diverge: `judge` rejects it. Accuracies only inform the reason.
    """

    examples: int
    generic_nll: float
    label_prior_nll: float  # always answering by the frequencies of the labels learnt from
    wrong_user_nll: float  # the same basis with other users' vectors
    personal_nll: float
    gain_se: float  # standard error of `gain`, from the paired differences
    generic_accuracy: float
    personal_accuracy: float

    def __post_init__(self) -> None:
        whole("Evidence.examples", self.examples)
        if math.isfinite(self.gain_se):
            finite("Evidence.gain_se", self.gain_se)

    @property
    def gain(self) -> float:
        """Nats per example that the version is better than the generic model."""
        return self.generic_nll - self.personal_nll

    @property
    def is_finite(self) -> bool:
        nlls = (self.generic_nll, self.label_prior_nll, self.wrong_user_nll, self.personal_nll)
        return all(map(math.isfinite, (*nlls, self.gain_se, self.generic_accuracy, self.personal_accuracy)))


@dataclass(frozen=True, slots=True)
class Bar:
    """What a version must clear. The defaults live here and nowhere else.

    The gain must exceed z * max(gain_se, se_floor / sqrt(examples)). The floor is for examples that happen to agree:
    the spread of four equal differences is measured as zero, which is luck, not certainty. At z = 1.5 about one in
    fifteen versions that gain exactly nothing pass this test (a normal tail), at z = 1 one in six; more examples are
    the better cure.
    """

    min_examples: int = 4  # held-out examples
    min_gain: float = 0.01  # nats per example
    z: float = 1.5  # standard errors
    se_floor: float = 0.2  # nats: the least standard deviation of one example's difference that is believed
    margin: float = 0.01  # nats per example that a wrong user's vector must be worse

    def __post_init__(self) -> None:
        whole("Bar.min_examples", self.min_examples, least=1)
        finite("Bar.min_gain", self.min_gain)
        finite("Bar.z", self.z)
        finite("Bar.se_floor", self.se_floor)
        finite("Bar.margin", self.margin)

    def noise(self, evidence: Evidence) -> float:
        """Nats per example that chance alone could give; `evidence` has at least one example."""
        return self.z * max(evidence.gain_se, self.se_floor / math.sqrt(evidence.examples))


@dataclass(frozen=True, slots=True)
class Promote(Decision):
    """Make the version current."""


@dataclass(frozen=True, slots=True)
class Reject(Decision):
    """Leave the user on what they had."""


def judge(evidence: Evidence, current: Evidence | None, bar: Bar) -> Promote | Reject:
    """Decide on a version. `current`: what its predecessor reaches on the same examples; None if the user has none."""
    return _unfit(evidence, current, bar) or _beaten(evidence, current, bar) or _won(evidence)


def _unfit(evidence: Evidence, current: Evidence | None, bar: Bar) -> Reject | None:
    """Why this evidence cannot be judged at all."""
    if not evidence.is_finite or (current is not None and not math.isfinite(current.personal_nll)):
        return Reject("a measure is not a finite number", "not_finite")
    if evidence.examples < bar.min_examples:
        return Reject(f"{evidence.examples} of {bar.min_examples} held-out examples", "too_little_evidence")
    if current is not None and current.examples != evidence.examples:
        seen = f"{current.examples} held-out examples for the current version, {evidence.examples} for the new"
        return Reject(f"{seen}: they were not judged on the same", "not_comparable")
    return None


def _beaten(evidence: Evidence, current: Evidence | None, bar: Bar) -> Reject | None:
    """Who or what the version loses to."""
    nll, gain = evidence.personal_nll, evidence.gain
    if gain < bar.min_gain:
        return Reject(
            f"{_nats(gain)} better than generic, but {bar.min_gain:.3f} are needed", "not_better_than_generic"
        )
    if gain <= bar.noise(evidence):
        return Reject(
            f"{_nats(gain)} better than generic may be chance: {bar.noise(evidence):.3f}", "gain_within_noise"
        )
    if nll >= evidence.label_prior_nll:
        lead = _nats(nll - evidence.label_prior_nll)
        return Reject(f"the user's label frequencies alone do as well or {lead} better", "not_better_than_label_prior")
    if evidence.wrong_user_nll - nll < bar.margin or evidence.wrong_user_nll <= nll:
        lead = _nats(evidence.wrong_user_nll - nll)
        return Reject(f"only {lead} better than a wrong user's vector", "matched_by_wrong_user")
    if current is not None and nll > current.personal_nll:
        return Reject(f"{_nats(nll - current.personal_nll)} worse than the current version", "worse_than_current")
    return None


def _won(evidence: Evidence) -> Promote:
    accuracy = f"accuracy {evidence.generic_accuracy:.3f} -> {evidence.personal_accuracy:.3f}"
    better = f"{_nats(evidence.gain)} better than generic on {evidence.examples} held-out examples"
    return Promote(f"{better} ({accuracy})", "beats_generic")


def _nats(value: float) -> str:
    return f"{value:.3f} nats per example"
