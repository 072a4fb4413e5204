"""Whether a candidate version may serve its user: the whole vector, else its label bias alone, else nothing.

Every example of the evidence is judged by what the user's other examples give, and none taught the Basis; nll is in
nats per example.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from policies.belief import Belief, Expected, Measured, believe, spread
from policies.decision import Decision
from policies.facts import InvalidFact, finite, share, whole


class Part(Enum):
    """How much of a user's vector serves."""

    WHOLE = "whole"
    LABEL_BIAS = "label_bias"


@dataclass(frozen=True, slots=True)
class Evidence:
    """How one adapter did beside its controls, on examples that taught neither it nor the Basis.

    A measure may be NaN or infinite, since a fit may diverge or have nothing to be judged on: `judge` rejects it.
    `lead` is what the content adds to the label bias; NaN where that is not known. Accuracies only inform.
    """

    examples: int
    generic_nll: float
    label_prior_nll: float  # the generic model moved to the label shares of the user's other examples
    wrong_user_nll: float  # others' content with the user's own label bias
    personal_nll: float
    gain_se: float  # standard error of `gain`, from the paired differences; NaN for one example
    lead: float = math.nan
    lead_se: float = math.nan
    generic_accuracy: float = math.nan
    personal_accuracy: float = math.nan

    def __post_init__(self) -> None:
        whole("Evidence.examples", self.examples)
        for name, error in (("Evidence.gain_se", self.gain_se), ("Evidence.lead_se", self.lead_se)):
            if math.isfinite(error):
                finite(name, error)

    @property
    def gain(self) -> float:
        """Nats per example that the adapter is better than the generic model."""
        return self.generic_nll - self.personal_nll

    @property
    def gained(self) -> Measured:
        return Measured(self.gain, self.gain_se, self.examples)

    @property
    def led(self) -> Measured:
        return Measured(self.lead, self.lead_se, self.examples)

    @property
    def is_finite(self) -> bool:
        nlls = (self.generic_nll, self.label_prior_nll, self.wrong_user_nll, self.personal_nll)
        spreads = (self.gain_se, self.lead, self.lead_se)
        return all(map(math.isfinite, nlls)) and not any(map(math.isinf, spreads))


@dataclass(frozen=True, slots=True)
class Contender:
    """One adapter that might serve.

    `worse` is its loss less that of the version in use, on examples that this has not learnt, and `moved` how far its
    answers are from those given now, in nats; None: not known.
    """

    part: Part
    evidence: Evidence
    expected: Expected = field(default_factory=Expected)
    worse: Measured | None = None
    moved: float | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """What a version must clear. The defaults live here and nowhere else."""

    min_examples: int = 4  # that the Basis has not seen
    min_gain: float = 0.005  # nats per example, of the posterior mean
    certainty: float = 0.7  # P(the user gains)
    lead_certainty: float = 0.5  # P(the content adds to the label bias); below it the label bias serves alone
    prior_z: float = 2.0  # standard errors by which the label frequencies may seem better
    margin: float = 0.0  # nats per example that others' content must be worse
    se_floor: float = 0.2  # nats: the least standard deviation of one example's difference that is believed
    max_moved: float = 2.0  # nats between the answers given now and the new ones
    expected_users: int = 20  # so many are needed to say what users of a Basis gain
    neutral_sd: float = 0.15  # nats: the spread of gains around 0 that is expected while there are fewer
    least_sd: float = 0.02  # nats: users differ at least so much

    def __post_init__(self) -> None:
        whole("Bar.min_examples", self.min_examples, least=1)
        whole("Bar.expected_users", self.expected_users, least=2)
        share("Bar.certainty", self.certainty)
        share("Bar.lead_certainty", self.lead_certainty)
        for name in ("min_gain", "prior_z", "margin", "se_floor", "max_moved", "neutral_sd", "least_sd"):
            finite(f"Bar.{name}", getattr(self, name))

    @property
    def neutral(self) -> Expected:
        """What is expected where too few users have been judged."""
        return Expected(0.0, self.neutral_sd, 0.0, self.neutral_sd)

    def gain(self, contender: Contender) -> Belief:
        """What the user is believed to gain over the generic model."""
        expected = contender.expected
        return believe(contender.evidence.gained, expected.gain, expected.gain_sd, self.se_floor)

    def lead(self, contender: Contender) -> Belief:
        """What the user's content is believed to add to their label bias."""
        expected = contender.expected
        return believe(contender.evidence.led, expected.lead, expected.lead_sd, self.se_floor)


@dataclass(frozen=True, slots=True)
class Promote(Decision):
    """Make the version current, with this part of it."""

    part: Part = Part.WHOLE


@dataclass(frozen=True, slots=True)
class Reject(Decision):
    """Leave the user on what they had."""


def judge(contenders: Sequence[Contender], bar: Bar) -> Promote | Reject:
    """Promote the first that clears the bar; if none does, the reason is the first one's, with the others' codes."""
    if not contenders:
        raise InvalidFact("contenders", "none", "at least one")
    refused: list[Reject] = []
    for contender in contenders:
        answer = _judge(contender, bar)
        if isinstance(answer, Promote):
            return answer
        refused.append(answer)
    first, rest = refused[0], refused[1:]
    others = [f"; {each.part.value}: {no.reason}" for each, no in zip(contenders[1:], rest, strict=True)]
    return Reject(first.reason + "".join(others), first.code)


def expect(found: Sequence[Evidence], bar: Bar) -> Expected:
    """What users of a Basis gain, from the evidence of one version of each; neutral where there are too few."""
    told = [each for each in found if each.is_finite and each.examples >= bar.min_examples]
    if len(told) < bar.expected_users:
        return bar.neutral
    gain = spread([each.gained for each in told], bar.least_sd)
    led = [each.led for each in told if math.isfinite(each.lead)]
    lead = spread(led, bar.least_sd) if len(led) >= bar.expected_users else (0.0, bar.neutral_sd)
    return Expected(*gain, *lead) if all(map(math.isfinite, (*gain, *lead))) else bar.neutral


def _judge(contender: Contender, bar: Bar) -> Promote | Reject:
    return (
        _unfit(contender, bar) or _no_gain(contender, bar) or _beaten(contender, bar) or _replaces_badly(contender, bar)
    ) or _won(contender, bar)


def _unfit(contender: Contender, bar: Bar) -> Reject | None:
    """Why this evidence cannot be judged at all."""
    evidence, worse, moved = contender.evidence, contender.worse, contender.moved
    if evidence.examples < bar.min_examples:
        return Reject(f"{evidence.examples} of {bar.min_examples} examples to be judged on", "too_little_evidence")
    compared = worse is None or worse.is_finite or not worse.examples
    if not evidence.is_finite or not compared or (moved is not None and not math.isfinite(moved)):
        return Reject("a measure is not a finite number", "not_finite")
    return None


def _no_gain(contender: Contender, bar: Bar) -> Reject | None:
    """Why the user is not believed to be better off than with the generic model.

    What was measured must be a gain by itself: what others gain makes it surer, and never stands in for it.
    """
    belief, evidence = bar.gain(contender), contender.evidence
    told = f"{_nats(evidence.gain)} better than generic on {evidence.examples} examples, believed {_told(belief)}"
    if evidence.gain <= 0.0 or belief.mean < bar.min_gain:
        return Reject(f"{told}, but {bar.min_gain:.3f} are needed", "not_better_than_generic")
    if belief.certainty < bar.certainty:
        return Reject(f"{told}: {belief.certainty:.2f} certain of {bar.certainty:.2f}", "gain_within_noise")
    return None


def _beaten(contender: Contender, bar: Bar) -> Reject | None:
    """Which control the adapter loses to. Others' content says nothing of a label bias, which has none."""
    evidence = contender.evidence
    behind = evidence.personal_nll - evidence.label_prior_nll
    noise = bar.prior_z * evidence.gained.noise(bar.se_floor)
    if behind > noise:
        told = f"{_nats(behind)} worse than the user's label frequencies, more than chance ({noise:.3f})"
        return Reject(told, "not_better_than_label_prior")
    if contender.part is Part.LABEL_BIAS:
        return None
    gap = evidence.wrong_user_nll - evidence.personal_nll
    if gap <= 0.0 or gap < bar.margin:
        return Reject(f"only {_nats(gap)} better than a wrong user's content", "matched_by_wrong_user")
    lead = bar.lead(contender)
    if not math.isnan(evidence.lead) and lead.certainty < bar.lead_certainty:
        told = f"content adds {_told(lead)} to the label bias: {lead.certainty:.2f} certain of {bar.lead_certainty:.2f}"
        return Reject(told, "content_adds_nothing")
    return None


def _replaces_badly(contender: Contender, bar: Bar) -> Reject | None:
    """Why this is no good successor of what serves now."""
    if contender.moved is not None and contender.moved > bar.max_moved:
        told = f"answers would move by {contender.moved:.3f} nats, {bar.max_moved:.3f} at most"
        return Reject(told, "moved_too_far")
    worse = contender.worse
    if worse is None or not worse.examples:
        return None
    surely = Belief(worse.mean, worse.noise(bar.se_floor)).certainty
    if worse.mean > 0.0 and surely >= bar.certainty:
        told = f"{_nats(worse.mean)} worse than the current version on {worse.examples} examples new to it"
        return Reject(f"{told}: {surely:.2f} certain", "worse_than_current")
    return None


def _won(contender: Contender, bar: Bar) -> Promote:
    evidence, belief = contender.evidence, bar.gain(contender)
    better = f"{_nats(evidence.gain)} better than generic on {evidence.examples} examples"
    believed = f"believed {_told(belief)}, {belief.certainty:.2f} certain"
    if contender.part is Part.LABEL_BIAS:
        return Promote(f"the label bias alone is {better}, {believed}", "label_bias_beats_generic", Part.LABEL_BIAS)
    return Promote(f"{better}, {believed}", "beats_generic")


def _told(belief: Belief) -> str:
    return f"{belief.mean:.3f} +- {belief.sd:.3f}"


def _nats(value: float) -> str:
    return f"{value:.3f} nats per example"
