"""Why a user is served what they are, in numbers."""

import json
import math
from collections.abc import Sequence

from daemon.api.schemas import Decided, Needed
from daemon.settings import Settings
from daemon.verdict import bias_evidence_of, evidence_of, gain_of, is_ours, part_of
from policies.promotion import Part
from storage import AdapterVersion

GENERIC = "generic"


def decided_view(
    versions: Sequence[AdapterVersion], current: AdapterVersion | None, fresh: int, settings: Settings
) -> Decided:
    """By the version in use, or where the generic model answers by the newest of `versions`."""
    bar, trigger = settings.promotion, settings.trigger
    about = current or (versions[-1] if versions else None)
    serving = GENERIC if current is None else part_of(current.scores).value
    needed = Needed(
        examples=bar.min_examples,
        certainty=bar.certainty,
        gain=bar.min_gain,
        events=max(0, trigger.min_fresh - fresh),
    )
    if about is None or not is_ours(about.scores):
        return _unknown(serving, about, needed)
    part, told, belief = part_of(about.scores), json.loads(about.scores), gain_of(about.scores)
    alone = bias_evidence_of(about.scores)
    evidence = alone if part is Part.LABEL_BIAS and alone is not None else evidence_of(about.scores)
    newest = json.loads(versions[-1].scores)  # a version that was rejected says what drifted
    return Decided(
        serving=serving,
        version=about.version,
        code=about.code,
        reason=about.reason,
        part=part.value,
        examples=evidence.examples,
        gain=_number(evidence.gain),
        believed_gain=None if belief is None else belief.mean,
        believed_gain_sd=None if belief is None else belief.sd,
        certainty=None if belief is None else belief.certainty,
        lead=_number(evidence.lead),
        wrong_user_gap=_number(evidence.wrong_user_nll - evidence.personal_nll) if part is Part.WHOLE else None,
        moved=told.get("moved"),
        drift=newest.get("drift"),
        drift_reason=newest.get("drift_reason"),
        fresh=newest.get("fresh") or 0,
        since=newest.get("since"),
        needed=needed,
    )


def _unknown(serving: str, about: AdapterVersion | None, needed: Needed) -> Decided:
    """Nobody was judged yet, or by an older release."""
    return Decided(
        serving=serving,
        version=None if about is None else about.version,
        code=None if about is None else about.code,
        reason=None if about is None else about.reason,
        part=None,
        examples=0,
        gain=None,
        believed_gain=None,
        believed_gain_sd=None,
        certainty=None,
        lead=None,
        wrong_user_gap=None,
        moved=None,
        drift=None,
        drift_reason=None,
        fresh=0,
        since=None,
        needed=needed,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
