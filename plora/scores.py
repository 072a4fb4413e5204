"""Scores: what an adapter is worth on examples that it has not learned from, beside its controls."""

import json
import math
from dataclasses import asdict, dataclass

from torch import Tensor

CONTROLS = ("generic", "label_prior", "wrong_user", "personal")


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy (share; NaN where only losses are known) and mean negative log-likelihood (nats per example)."""

    accuracy: float
    nll: float


@dataclass(frozen=True, slots=True)
class Scores:
    """One user's figures. `gain` is generic minus personal NLL, mean over examples; `gain_se` its standard error.

    `lead` is what the content adds: the NLL of the user's label bias alone (of the label prior, where the Basis has no
    label bias) minus personal. With one example an error is NaN, with none every figure is.
    """

    examples: int
    generic: Score
    label_prior: Score
    wrong_user: Score
    personal: Score
    gain: float
    gain_se: float
    lead: float = math.nan
    lead_se: float = math.nan

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Scores":
        told = json.loads(text)
        generic, prior, wrong, personal = (Score(**told[name]) for name in CONTROLS)
        gain = (told["gain"], told["gain_se"])
        lead = (told.get("lead", math.nan), told.get("lead_se", math.nan))
        return Scores(told["examples"], generic, prior, wrong, personal, *gain, *lead)

    def plus(self, other: "Scores") -> "Scores":
        """Of both's examples together, none of which is in both."""
        if not self.examples or not other.examples:
            return self if self.examples else other
        n, m = self.examples, other.examples
        total = n + m

        def mean(a: float, b: float) -> float:
            return (n * a + m * b) / total

        def error(a: tuple[float, float], b: tuple[float, float]) -> float:
            """Of the mean of all, from both means and their errors."""
            squares = [k * ((k - 1) * (0.0 if k < 2 else e) ** 2 + d**2) for (d, e), k in ((a, n), (b, m))]
            return math.sqrt(max(0.0, sum(squares) - total * mean(a[0], b[0]) ** 2) / (total - 1) / total)

        def joined(a: Score, b: Score) -> Score:
            return Score(mean(a.accuracy, b.accuracy), mean(a.nll, b.nll))

        return Scores(
            examples=total,
            generic=joined(self.generic, other.generic),
            label_prior=joined(self.label_prior, other.label_prior),
            wrong_user=joined(self.wrong_user, other.wrong_user),
            personal=joined(self.personal, other.personal),
            gain=mean(self.gain, other.gain),
            gain_se=error((self.gain, self.gain_se), (other.gain, other.gain_se)),
            lead=mean(self.lead, other.lead),
            lead_se=error((self.lead, self.lead_se), (other.lead, other.lead_se)),
        )


def scores_of(generic: Tensor, prior: Tensor, wrong: Tensor, personal: Tensor, rival: Tensor | None = None) -> Scores:
    """Each (examples, 2) hits and losses. `rival` is what `lead` is over, the label prior where it is None."""
    means = [Score(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in (generic, prior, wrong, personal)]
    gain = _paired(generic[:, 1] - personal[:, 1])
    lead = _paired((prior if rival is None else rival)[:, 1] - personal[:, 1])
    return Scores(len(personal), means[0], means[1], means[2], means[3], *gain, *lead)


def _paired(differences: Tensor) -> tuple[float, float]:
    n = len(differences)
    return float(differences.mean()), float(differences.std() / n**0.5) if n > 1 else math.nan
