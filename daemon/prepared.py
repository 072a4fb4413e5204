"""A claimed run made ready: its events to examples, some to learn from and some to be judged on."""

from dataclasses import dataclass, field, replace

from daemon.events import LabelledExample, examples_of
from daemon.facts import candidates_of, seed_of
from daemon.learnt import Learnt, loads
from daemon.messages import Labelled, Member
from daemon.settings import Settings
from policies import Policies
from policies.refit import Refit
from policies.selection import NotEnough
from storage import Event, Material, Run


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run with what it learns from and what it is judged on.

    With `statistics`, which cover the first `covered` examples to learn from, only the others are new.
    """

    run: Run
    events: tuple[Event, ...] = field(repr=False)
    learn: tuple[LabelledExample, ...] = field(repr=False)
    held_out: tuple[LabelledExample, ...] = field(repr=False)
    current: bytes | None = field(default=None, repr=False)
    statistics: bytes | None = field(default=None, repr=False)
    covered: int = 0

    @property
    def watermark(self) -> int:
        return max((event.seq for event in self.events), default=0)

    @property
    def seqs(self) -> tuple[int, ...]:
        """What the fit will have learnt from."""
        return tuple(each.seq for each in self.learn)

    def to_member(self) -> Member:
        """As the Trainer is asked."""
        return Member(
            run=self.run.id,
            epoch=self.run.epoch,
            learn=_labelled(self.learn),
            held_out=_labelled(self.held_out),
            current=self.current,
            statistics=self.statistics,
            covered=self.covered,
        )


def prepare(run: Run, material: Material, policies: Policies, settings: Settings) -> Prepared | NotEnough:
    """Choose what `run` learns from, and whether it goes on from the statistics of the adapter in use."""
    current = material.current
    if current is not None and current.version.basis != run.basis:
        current = None  # neither to be compared with nor to go on from
    kept = loads(material.statistics) if current is not None and material.statistics is not None else None
    learnt = kept or Learnt((), b"")
    examples = examples_of(material.events)
    choice = policies.what(candidates_of(examples, frozenset(learnt.seqs)), settings.selection, seed_of(run.user))
    if isinstance(choice, NotEnough):
        return choice
    by_seq = {each.seq: each for each in examples}
    growth = policies.how(choice, learnt.seqs, settings.refit)
    full = Prepared(
        run=run,
        events=material.events,
        learn=tuple(by_seq[seq] for seq in choice.learn),
        held_out=tuple(by_seq[seq] for seq in choice.held_out),
        current=None if current is None else current.content,
    )
    if not isinstance(growth, Refit):
        return full
    order = tuple(by_seq[seq] for seq in (*growth.covered, *growth.new))
    return replace(full, learn=order, statistics=learnt.statistics, covered=len(growth.covered))


def _labelled(examples: tuple[LabelledExample, ...]) -> tuple[Labelled, ...]:
    return tuple((each.text, each.label) for each in examples)
