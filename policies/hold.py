"""Whether an answer may be given, or is held for a person to look at: by how sure the model is of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.decision import Decision
from policies.facts import InvalidFact, finite, whole


@dataclass(frozen=True, slots=True)
class Doubt:
    """When to hold: below a least confidence, or a least lead over the second label. 0: never.

    `alternatives` is how many of the likeliest labels a held answer names.
    """

    min_confidence: float = 0.0
    min_margin: float = 0.0
    alternatives: int = 3

    def __post_init__(self) -> None:
        finite("Doubt.min_confidence", self.min_confidence, most=1.0)
        finite("Doubt.min_margin", self.min_margin, most=1.0)
        whole("Doubt.alternatives", self.alternatives, least=1)


@dataclass(frozen=True, slots=True)
class Answerable:
    """An answer that could be given: calibrated probabilities of all labels."""

    probabilities: Mapping[str, float] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.probabilities:
            raise InvalidFact("Answerable.probabilities", "empty", "the probability of each label")
        for chance in self.probabilities.values():
            finite("a probability", chance, most=1.0 + 1e-6)

    @property
    def ordered(self) -> list[tuple[str, float]]:
        """Labels and probabilities, the likeliest first; equals in the order of the labels."""
        return sorted(self.probabilities.items(), key=lambda each: -each[1])


@dataclass(frozen=True, slots=True)
class Give(Decision):
    """The likeliest label is the answer."""


@dataclass(frozen=True, slots=True)
class Hold(Decision):
    """A person decides; `alternatives` are the likeliest labels and their probabilities."""

    alternatives: tuple[tuple[str, float], ...] = field(default=(), repr=False)


def consider(answer: Answerable, doubt: Doubt) -> Give | Hold:
    """Give the answer unless it is less sure than asked for."""
    ordered = answer.ordered
    confidence = ordered[0][1]
    margin = confidence - (ordered[1][1] if len(ordered) > 1 else 0.0)
    named = tuple(ordered[: doubt.alternatives])
    if confidence < doubt.min_confidence:
        sentence = f"the model is sure to {confidence:.2f}, and {doubt.min_confidence:.2f} is asked for"
        return Hold(sentence, "low_confidence", named)
    if margin < doubt.min_margin:
        sentence = f"the best label leads by {margin:.2f}, and {doubt.min_margin:.2f} is asked for"
        return Hold(sentence, "close_call", named)
    return Give(f"the model is sure to {confidence:.2f}", "sure")
