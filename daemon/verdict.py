"""A verdict as it is stored beside its version: figures, beliefs and what was decided, as one JSON document.

The figures of the whole vector are those of `daemon.scores`; here they are read as the facts that policies judge.
Only numbers and codes are in it, null where there is no number.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from daemon.messages import FreshLoss, MemberFitted, Offer
from daemon.promises import Kept
from policies.belief import Belief, Measured
from policies.decision import Decision
from policies.drift import Fresh, RollBack
from policies.promotion import Bar, Contender, Evidence, Part, Promote

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided on a run's contenders. `judged` is the one that the decision is about."""

    decision: Decision
    judged: Contender
    drift: Decision
    since: int | None

    @property
    def promoted(self) -> bool:
        return isinstance(self.decision, Promote)

    @property
    def retires(self) -> bool:
        """Whether the version in use is to serve no more, even where nothing takes its place."""
        return isinstance(self.drift, RollBack)


def evidence_of(scores: str) -> Evidence:
    """What the document says of the whole vector, or of whatever it is a document of."""
    return _evidence(json.loads(scores))


def bias_evidence_of(scores: str) -> Evidence | None:
    """What a version's document says of its label bias alone."""
    told = json.loads(scores).get("label_bias")
    return _evidence(told) if isinstance(told, dict) else None


def fresh_of(fitted: MemberFitted, current: str | None) -> Fresh | None:
    """What came since the version in use, whose document is `current`."""
    if current is None or not fitted.fresh:
        return None
    losses = [each.current for each in fitted.fresh]
    gain = measured([each.generic - each.current for each in fitted.fresh])
    promised = _promised(current)
    if promised is None or not promised.examples:
        return Fresh(gain, Measured(math.nan, math.nan, 0))
    found = measured([loss - promised.personal_nll for loss in losses])
    if not math.isnan(found.se):  # the promise was measured on a few examples as well
        found = Measured(found.mean, found.se * math.sqrt(1 + len(losses) / promised.examples), len(losses))
    return Fresh(gain, found)


def worse_of(fresh: Sequence[FreshLoss]) -> Measured | None:
    """The candidate's loss less that of the version in use, on what neither has learnt; None without a version."""
    return measured([each.candidate - each.current for each in fresh]) if fresh else None


def mean_candidate(fresh: Sequence[FreshLoss]) -> float:
    """Of the candidate's losses; NaN of none."""
    return sum(each.candidate for each in fresh) / len(fresh) if fresh else math.nan


def measured(differences: Sequence[float]) -> Measured:
    """Their mean and its standard error."""
    n = len(differences)
    if not n:
        return Measured(math.nan, math.nan, 0)
    mean = sum(differences) / n
    if n < 2:
        return Measured(mean, math.nan, n)
    return Measured(mean, math.sqrt(sum((each - mean) ** 2 for each in differences) / (n - 1) / n), n)


def document(fitted: MemberFitted, verdict: Verdict, bar: Bar) -> str:
    """The verdict with all its figures."""
    offer, judged = offer_of(fitted, verdict.judged.part), verdict.judged
    gain, lead = bar.gain(judged), bar.lead(judged)
    told: Json = json.loads(fitted.whole.scores)
    told |= {
        "label_bias": None if fitted.label_bias is None else json.loads(fitted.label_bias.scores),
        "part": judged.part.value,
        "promoted": verdict.promoted,
        "believed": {
            "gain": gain.mean,
            "gain_sd": gain.sd,
            "certainty": gain.certainty,
            "lead": lead.mean,
            "lead_sd": lead.sd,
            "lead_certainty": lead.certainty,
        },
        "moved": offer.moved,
        "from_generic": offer.from_generic,
        "drift": verdict.drift.code,
        "drift_reason": verdict.drift.reason,
        "fresh": len(fitted.fresh),
        "since": verdict.since,
        "mode": fitted.mode.value,
        "passes": round(fitted.passes, 3),
        "privacy": None if fitted.privacy is None else _privacy(fitted.privacy),
    }
    return json.dumps(_plain(told), sort_keys=True)


def gain_of(scores: str) -> Belief | None:
    """What the user is believed to gain by what was judged, in nats per example."""
    told = json.loads(scores).get("believed")
    if not isinstance(told, dict):
        return None
    gain, sd = _number(told.get("gain")), _number(told.get("gain_sd"))
    return Belief(gain, sd) if math.isfinite(gain) and math.isfinite(sd) else None


def offer_of(fitted: MemberFitted, part: Part) -> Offer:
    """What would be served of this part."""
    if part is Part.LABEL_BIAS and fitted.label_bias is not None:
        return fitted.label_bias
    return fitted.whole


def is_ours(scores: str) -> bool:
    """Whether the document was written here, and not by an older release or by hand."""
    return isinstance(json.loads(scores).get("believed"), dict)


def part_of(scores: str) -> Part:
    """Which part was judged, and serves if it was promoted."""
    try:
        return Part(json.loads(scores).get("part"))
    except ValueError:
        return Part.WHOLE


def since_of(scores: str) -> int | None:
    """The seq from which on the user is learnt from; None: from the first."""
    since = json.loads(scores).get("since")
    return since if type(since) is int else None


def spent_of(scores: str | None) -> float | None:
    """What the user's versions up to the one of this document have spent; None: not bounded."""
    if scores is None:
        return 0.0
    told = json.loads(scores).get("privacy")
    spent = told.get("spent") if isinstance(told, dict) else None
    return float(spent) if isinstance(spent, int | float) else None


def _privacy(kept: Kept) -> Json:
    return {**asdict(kept.promise), "total": kept.total, "spent": kept.spent}


def _promised(current: str) -> Evidence | None:
    if not is_ours(current):
        return None
    return bias_evidence_of(current) if part_of(current) is Part.LABEL_BIAS else evidence_of(current)


def _evidence(told: Json) -> Evidence:
    examples = told.get("examples")
    return Evidence(
        examples=examples if type(examples) is int else 0,
        generic_nll=_figure(told, "generic", "nll"),
        label_prior_nll=_figure(told, "label_prior", "nll"),
        wrong_user_nll=_figure(told, "wrong_user", "nll"),
        personal_nll=_figure(told, "personal", "nll"),
        gain_se=_number(told.get("gain_se")),
        lead=_number(told.get("lead")),
        lead_se=_number(told.get("lead_se")),
        generic_accuracy=_figure(told, "generic", "accuracy"),
        personal_accuracy=_figure(told, "personal", "accuracy"),
    )


def _figure(told: Json, control: str, measure: str) -> float:
    of = told.get(control)
    return _number(of.get(measure)) if isinstance(of, dict) else math.nan


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
