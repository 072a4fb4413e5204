"""A claimed run made ready: its events to examples, what it learns from, and what of that is evidence."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from daemon.events import LabelledExample, examples_of
from daemon.facts import candidates_of, seed_of
from daemon.learnt import Learnt, loads
from daemon.messages import Labelled, Member
from daemon.settings import Settings
from daemon.taught import Lesson, seen_texts
from daemon.verdict import is_ours, part_of, since_of, spent_of
from policies import Policies
from policies.promotion import Part
from policies.refit import Refit
from policies.selection import Candidate, Division, NotEnough
from storage import Event, Material, Run, StoredAdapter


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run with what it learns from. `judged`, `fresh` are seqs: of evidence, and of what `current` has not learnt.

    With `statistics`, which cover the first `covered` examples to learn from, only the others are new. `since` is the
    seq from which on the user is learnt from, if they changed. `spent` is what the user's versions have spent of their
    privacy, None: it is not bounded.
    """

    run: Run
    events: tuple[Event, ...] = field(repr=False)
    learn: tuple[LabelledExample, ...] = field(repr=False)
    held_out: tuple[LabelledExample, ...] = field(default=(), repr=False)
    judged: frozenset[int] = frozenset()
    fresh: frozenset[int] = frozenset()
    current: StoredAdapter | None = field(default=None, repr=False)
    statistics: bytes | None = field(default=None, repr=False)
    covered: int = 0
    since: int | None = None
    spent: float | None = 0.0

    @property
    def watermark(self) -> int:
        return max((event.seq for event in self.events), default=0)

    @property
    def seqs(self) -> tuple[int, ...]:
        """What the fit will have learnt from."""
        return tuple(each.seq for each in self.learn)

    @property
    def rows(self) -> tuple[LabelledExample, ...]:
        """Everything that travels, in the order that the Trainer counts in."""
        return (*self.learn, *self.held_out)

    def to_member(self) -> Member:
        """As the Trainer is asked."""
        return Member(
            run=self.run.id,
            epoch=self.run.epoch,
            learn=_labelled(self.learn),
            held_out=_labelled(self.held_out),
            judged=_places(self.learn, self.judged),
            fresh=_places(self.rows, self.fresh),
            current=None if self.current is None else self.current.content,
            statistics=self.statistics,
            covered=self.covered,
            kept=self.current.version.scores if self.current is not None and self.statistics is not None else None,
            spent=self.spent,
        )

    def anew(self) -> "Prepared":
        """The same run without statistics to go on from."""
        return replace(self, statistics=None, covered=0)

    def since_current(self) -> "Prepared":
        """The same run, but learning only from what the version in use has not learnt."""
        return replace(
            self.anew(),
            learn=tuple(each for each in self.learn if each.seq in self.fresh),
            held_out=tuple(each for each in self.held_out if each.seq in self.fresh),
            judged=self.judged & self.fresh,
            since=min(self.fresh, default=self.since),
        )


def prepare(
    run: Run, material: Material, policies: Policies, settings: Settings, lesson: Lesson | None = None
) -> Prepared | NotEnough:
    """Choose what `run` learns from, and whether it goes on from the statistics of the adapter in use.

    `lesson`: what the run's Basis learnt; None: nothing of this tenant's users.
    """
    current = material.current
    if current is not None and current.version.basis != run.basis:
        current = None  # neither to be compared with nor to go on from
    since = None if material.latest is None else since_of(material.latest.scores)
    examples = [each for each in examples_of(material.events) if since is None or each.seq >= since]
    learnt = _learnt(material, current)
    seen = seen_texts(run.user, material.events, lesson, policies) if lesson is not None else frozenset()
    known = _known(examples, learnt, current)
    candidates = candidates_of(examples, known, seen)
    by_seq = {each.seq: each for each in examples}
    spent = spent_of(None if material.latest is None else material.latest.scores)
    made = Prepared(run, material.events, (), current=current, since=since, spent=spent)
    if settings.fit.divides:
        return _divided(made, candidates, by_seq, policies, settings)
    choice = policies.what(candidates, settings.selection)
    if isinstance(choice, NotEnough):
        return choice
    full = replace(
        made,
        learn=tuple(by_seq[seq] for seq in choice.learn),
        judged=frozenset(choice.judged),
        fresh=frozenset() if current is None else frozenset(choice.learn) - known,
    )
    growth = policies.how(choice, learnt.seqs if learnt.statistics else (), settings.refit)
    if not isinstance(growth, Refit):
        return full
    order = tuple(by_seq[seq] for seq in (*growth.covered, *growth.new))
    return replace(full, learn=order, statistics=learnt.statistics, covered=len(growth.covered))


def _learnt(material: Material, current: StoredAdapter | None) -> Learnt:
    """What the version in use has learnt; its statistics only if it serves whole and its scores are of this release."""
    kept = loads(material.statistics) if current is not None and material.statistics is not None else None
    if kept is None or current is None:
        return Learnt((), b"")
    goes_on = is_ours(current.version.scores) and part_of(current.version.scores) is Part.WHOLE
    return kept if goes_on else Learnt(kept.seqs, b"")


def _known(examples: Collection[LabelledExample], learnt: Learnt, current: StoredAdapter | None) -> frozenset[int]:
    """Seqs that the version in use has learnt from; where that was not kept, everything it may have."""
    if current is None:
        return frozenset()
    if learnt.seqs:
        return frozenset(learnt.seqs)
    return frozenset(each.seq for each in examples if each.seq <= current.version.watermark_seq)


def _divided(
    made: Prepared,
    candidates: list[Candidate],
    by_seq: dict[int, LabelledExample],
    policies: Policies,
    settings: Settings,
) -> Prepared | NotEnough:
    """For an optimizer that cannot judge an example by the others: some are held out, which the Basis has not seen."""
    choice = policies.divide(candidates, settings.selection, seed_of(made.run.user))
    if not isinstance(choice, Division):
        return choice
    new = {each.id for each in candidates if not each.learnt}
    return replace(
        made,
        learn=tuple(by_seq[seq] for seq in choice.learn),
        held_out=tuple(by_seq[seq] for seq in choice.held_out),
        fresh=frozenset() if made.current is None else frozenset(choice.held_out) & new,
    )


def _places(rows: tuple[LabelledExample, ...], seqs: Collection[int]) -> tuple[int, ...]:
    return tuple(at for at, each in enumerate(rows) if each.seq in seqs)


def _labelled(examples: tuple[LabelledExample, ...]) -> tuple[Labelled, ...]:
    return tuple((each.text, each.label) for each in examples)
