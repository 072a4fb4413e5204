"""What users gain by their Basis, as the newest versions tell: the gate weighs little evidence against it."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.metrics import Metrics
from daemon.verdict import bias_evidence_of, evidence_of, gain_of, is_ours
from policies.belief import Belief, Expected
from policies.promotion import Bar, Evidence, Part, expect
from storage import AdapterVersion, Store, VersionState

LOOKED_AT = 2_000
"""Versions, the newest over all users: what bounds the cost of a look."""

LOOK_S = 10.0


@dataclass(slots=True)
class _Found:
    """Evidence of one version of each user."""

    whole: list[Evidence] = field(default_factory=list)
    label_bias: list[Evidence] = field(default_factory=list)


class Expectations:
    """What was found at the last look. Thread-safe."""

    def __init__(self, store: Store, bar: Bar, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._store, self._bar, self._metrics, self._now = store, bar, metrics, now
        self._looked: datetime | None = None
        self._known: dict[tuple[str, Part], Expected] = {}
        self._lock = threading.Lock()

    def look(self) -> None:
        """Look now, also for the gauges."""
        with self._lock:
            self._look()
            self._looked = self._now()

    def look_before(self, basis: str) -> None:
        """Look, before versions on this Basis are judged, if the last look is `LOOK_S` old or found too few users."""
        known = self._known.get((basis, Part.WHOLE), self._bar.neutral)
        if (
            self._looked is None
            or self._now() - self._looked >= timedelta(seconds=LOOK_S)
            or known == self._bar.neutral
        ):
            self.look()

    def of(self, basis: str, part: Part) -> Expected:
        """What this part of a vector is expected to gain on this Basis."""
        return self._known.get((basis, part), self._bar.neutral)

    def _look(self) -> None:
        versions = self._store.newest_versions(LOOKED_AT)
        found: defaultdict[str, _Found] = defaultdict(_Found)
        told: set[str] = set()
        for version in versions:
            if version.user in told or not is_ours(version.scores):
                continue
            told.add(version.user)
            found[version.basis].whole.append(evidence_of(version.scores))
            if (alone := bias_evidence_of(version.scores)) is not None:
                found[version.basis].label_bias.append(alone)
        known: dict[tuple[str, Part], Expected] = {}
        for basis, each in found.items():
            known[basis, Part.WHOLE] = expect(each.whole, self._bar)
            known[basis, Part.LABEL_BIAS] = expect(each.label_bias, self._bar)
        self._known = known
        self._observe(versions)

    def _observe(self, versions: Sequence[AdapterVersion]) -> None:
        """The gauges over users who are served now."""
        served = [each.scores for each in versions if each.state is VersionState.CURRENT]
        beliefs: list[Belief] = [belief for scores in served if (belief := gain_of(scores)) is not None]
        count = max(1, len(beliefs))
        self._metrics.population_gain.set(sum(each.mean for each in beliefs) / count)
        self._metrics.harmed.set(sum(1.0 - each.certainty for each in beliefs) / count)
