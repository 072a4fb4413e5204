"""Judging: what a Trainer found of a run, put before the policies."""

from dataclasses import replace

from daemon.expectations import Expectations
from daemon.learnt import Learnt, dumps
from daemon.messages import MemberFitted
from daemon.prepared import Prepared
from daemon.settings import Settings
from daemon.verdict import (
    Verdict,
    document,
    evidence_of,
    fresh_of,
    mean_candidate,
    offer_of,
    worse_of,
)
from policies import Policies
from policies.drift import BeginAnew, Drifted, RollBack, Steady
from policies.promotion import Contender, Part, Promote
from storage import FinishedRun

Drift = Steady | Drifted | RollBack


class Judging:
    """Gathers facts, asks policies, and says what is to be stored."""

    def __init__(self, policies: Policies, settings: Settings, expectations: Expectations) -> None:
        self._policies, self._settings, self._expectations = policies, settings, expectations

    def watch(self, prepared: Prepared, fitted: MemberFitted) -> Drift:
        """Whether the user still is who the version in use takes them for."""
        current = None if prepared.current is None else prepared.current.version.scores
        return self._policies.watch(fresh_of(fitted, current), self._settings.drift)

    def begins_anew(self, everything: MemberFitted, since: MemberFitted) -> bool:
        """Whether what came since the version in use is to be learnt from alone."""
        told = self._policies.since(mean_candidate(everything.fresh), mean_candidate(since.fresh))
        return isinstance(told, BeginAnew)

    def judge(self, prepared: Prepared, fitted: MemberFitted, drift: Drift) -> Verdict:
        """On the whole vector, and on its label bias alone."""
        rolls_back = isinstance(drift, RollBack)
        contenders = [self._contender(prepared, fitted, Part.WHOLE, rolls_back=rolls_back)]
        if fitted.label_bias is not None:
            contenders.append(self._contender(prepared, fitted, Part.LABEL_BIAS, rolls_back=rolls_back))
        decision = self._policies.judge(contenders, self._settings.promotion)
        part = decision.part if isinstance(decision, Promote) else Part.WHOLE
        judged = next((each for each in contenders if each.part is part), contenders[0])
        return Verdict(decision, judged, drift, prepared.since)

    def finished(self, prepared: Prepared, fitted: MemberFitted, verdict: Verdict) -> FinishedRun:
        """What is stored. Only a version that will be current gets statistics: no run goes on from another."""
        learnt = Learnt(prepared.seqs, fitted.statistics or b"")
        current = prepared.current
        return FinishedRun(
            adapter=offer_of(fitted, verdict.judged.part).adapter,
            promoted=verdict.promoted,
            code=verdict.decision.code,
            reason=verdict.decision.reason,
            scores=document(fitted, verdict, self._settings.promotion),
            base=fitted.base,
            basis=prepared.run.basis,
            watermark_seq=prepared.watermark,
            statistics=dumps(learnt) if verdict.promoted else None,
            retires=current.version.version if current is not None and verdict.retires else None,
        )

    def _contender(self, prepared: Prepared, fitted: MemberFitted, part: Part, *, rolls_back: bool) -> Contender:
        """What is rolled back is no measure for its successor: that is held against the generic model alone."""
        offer = offer_of(fitted, part)
        contender = Contender(
            part, evidence_of(offer.scores), self._expectations.of(prepared.run.basis, part), moved=offer.from_generic
        )
        if prepared.current is None or rolls_back:
            return contender
        worse = worse_of(fitted.fresh) if part is Part.WHOLE else None
        return replace(contender, worse=worse, moved=offer.moved)
