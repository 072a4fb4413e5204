"""What to learn from, what may judge it, and what a Basis must not see.

Every example of a user teaches the user's own vector: a fit judges each by what the others give. Only what taught the
Basis is no evidence, so population training leaves a share of each user's texts out.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from policies.decision import Decision
from policies.facts import InvalidFact, aware, distinct, share, whole


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example to choose from. Its keys are digests: equal for equal texts or labels, and not readable.

    `learnt`: the current version has learnt from it, and is not to be judged on it. `seen`: the Basis has.
    """

    id: int
    text_key: bytes
    label_key: bytes
    at: datetime
    learnt: bool = False
    seen: bool = False

    def __post_init__(self) -> None:
        aware("Candidate.at", self.at)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many examples a run may use, and how many of them the Basis never sees."""

    max_examples: int = 64  # of one user
    held_out_share: float = 1 / 3  # of a population user's texts, from the training of the Basis
    min_held_out: int = 4
    min_learn: int = 2

    def __post_init__(self) -> None:
        whole("Budget.min_held_out", self.min_held_out, least=1)
        whole("Budget.min_learn", self.min_learn, least=1)
        whole("Budget.max_examples", self.max_examples, least=1)
        share("Budget.held_out_share", self.held_out_share)
        if self.max_examples < self.least:
            raise InvalidFact(
                "Budget.max_examples", str(self.max_examples), f"at least {self.least}, both minima together"
            )

    @property
    def least(self) -> int:
        """The fewest different texts that can be divided."""
        return self.min_held_out + self.min_learn


@dataclass(frozen=True, slots=True)
class Selection(Decision):
    """Ids to learn from, and those among them that the Basis has not seen: they judge. Each newest first."""

    learn: tuple[int, ...]
    judged: tuple[int, ...]

    def __post_init__(self) -> None:
        Decision.__post_init__(self)  # a bare super() does not survive slots=True
        distinct("Selection.learn", [*self.learn])
        distinct("Selection.judged", [*self.judged])
        if not self.learn:
            raise InvalidFact("Selection.learn", "empty", "at least one example")
        if not set(self.judged) <= set(self.learn):
            raise InvalidFact("Selection.judged", "more than what is learnt from", "among what is learnt from")


@dataclass(frozen=True, slots=True)
class Division(Decision):
    """Ids to learn from and ids to hold out, each newest first. No text is on both sides."""

    learn: tuple[int, ...]
    held_out: tuple[int, ...]

    def __post_init__(self) -> None:
        Decision.__post_init__(self)
        distinct("Division", [*self.learn, *self.held_out])
        if not self.learn or not self.held_out:
            raise InvalidFact("Division", "empty on one side", "at least one example on each")


@dataclass(frozen=True, slots=True)
class NotEnough(Decision):
    """Too few different texts."""


def what(candidates: Sequence[Candidate], budget: Budget) -> Selection | NotEnough:
    """Choose the newest texts within `budget`; a text that was labelled twice counts as labelled last.

    The order of `candidates` does not matter.
    """
    distinct("Candidate.id", [candidate.id for candidate in candidates])
    recent = _newest(candidates)[: budget.max_examples]
    if len(recent) < budget.min_learn:
        return NotEnough(f"{len(recent)} different texts, but {budget.min_learn} are needed", "not_enough")
    learn = tuple(candidate.id for candidate in recent)
    judged = tuple(candidate.id for candidate in recent if not candidate.seen)
    return Selection(f"{len(learn)} texts to learn from, {len(judged)} of them judge", "selected", learn, judged)


def divide(candidates: Sequence[Candidate], budget: Budget, seed: int) -> Division | NotEnough:
    """Choose the newest texts within `budget` and hold a share of them out, by label.

    For the training of a Basis, and for fits that can not judge an example by the others. The order of `candidates`
    does not matter. A text's lot depends on `seed` and its key alone, so with one seed per user a held-out text tends
    to stay held out, also when it is labelled anew. What is known to be learnt is held out only when nothing else is
    left.
    """
    distinct("Candidate.id", [candidate.id for candidate in candidates])
    recent = _newest(candidates)[: budget.max_examples]
    if len(recent) < budget.least:
        needed = f"{budget.min_learn} to learn from and {budget.min_held_out} to hold out"
        return NotEnough(f"{len(recent)} different texts, but {needed} are needed", "not_enough")
    count = math.floor(len(recent) * budget.held_out_share + 0.5)
    count = min(max(count, budget.min_held_out), len(recent) - budget.min_learn)
    held = _draw(recent, count, seed)
    learn = tuple(candidate.id for candidate in recent if candidate.id not in held)
    held_out = tuple(candidate.id for candidate in recent if candidate.id in held)
    return Division(f"{len(learn)} texts to learn from, {count} held out", "divided", learn, held_out)


def _newest(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The newest candidate of every text, newest first; at the same time the higher id is newer."""
    by_text = {candidate.text_key: candidate for candidate in sorted(candidates, key=_age)}
    return sorted(by_text.values(), key=_age, reverse=True)


def _age(candidate: Candidate) -> tuple[datetime, int]:
    return candidate.at, candidate.id


def _draw(recent: Sequence[Candidate], count: int, seed: int) -> frozenset[int]:
    """Ids of `count` candidates, shared among the labels by Webster's method (Sainte-Lague).

    The j-th of a label's s candidates, in seeded order, stands at (j + 1/2) / s. Taking those that stand lowest gives
    each label its share, rounded. The last of a label is taken only when nothing else is left: one stays to learn
    from. Those already learnt stand behind the others, in their label and in all.
    """
    by_label: defaultdict[bytes, list[Candidate]] = defaultdict(list)
    for candidate in sorted(recent, key=lambda candidate: (candidate.learnt, _lot(candidate, seed))):
        by_label[candidate.label_key].append(candidate)
    queue = [
        (candidate.learnt, j == len(stratum) - 1, (j + 0.5) / len(stratum), _lot(candidate, seed), candidate.id)
        for stratum in by_label.values()
        for j, candidate in enumerate(stratum)
    ]
    return frozenset(place[-1] for place in sorted(queue)[:count])


def _lot(candidate: Candidate, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:".encode() + candidate.text_key).digest()
