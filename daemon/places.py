"""A member of a cohort as the library reads it: only what the Basis knows, and where each example then stands."""

from dataclasses import dataclass, field

import plora
from daemon import scores
from daemon.messages import Member


@dataclass(frozen=True, slots=True)
class Place:
    """`judged` are places in `learn`, `fresh` places in `learn` followed by `held_out`.

    The first `covered` to learn from are in `statistics` and were worth `kept`.
    """

    run: int
    learn: list[plora.Example] = field(repr=False)
    held_out: list[plora.Example] = field(repr=False)
    judged: tuple[int, ...]
    fresh: tuple[int, ...]
    current: plora.Adapter | None = field(repr=False)
    unknown_labels: int
    statistics: plora.Statistics | None = field(repr=False)
    covered: int
    kept: plora.Scores | None
    spent: float | None

    @property
    def new(self) -> list[plora.Example]:
        """What the statistics do not cover."""
        return self.learn[self.covered :]

    @property
    def rows(self) -> list[plora.Example]:
        """Everything, in the order of `fresh`."""
        return [*self.learn, *self.held_out]


def place_of(basis: plora.Basis, member: Member, settings: plora.FitSettings) -> Place:
    """The member without what this Basis cannot learn from: it may be older than a label, and others are known."""
    rows = (*member.learn, *member.held_out)
    known = [at for at, (_, label) in enumerate(rows) if _knows(basis, label)]
    now = {at: index for index, at in enumerate(known)}
    examples = [plora.Example(*rows[at]) for at in known]
    learnt = sum(at < len(member.learn) for at in known)
    judged = range(len(member.learn)) if member.judged is None else member.judged
    current = plora.loads_adapter(member.current) if member.current else None
    return Place(
        run=member.run,
        learn=examples[:learnt],
        held_out=examples[learnt:],
        judged=tuple(now[at] for at in judged if at in now),
        fresh=tuple(now[at] for at in member.fresh if at in now),
        current=current if current is not None and current.basis == basis.fingerprint else None,
        unknown_labels=len(rows) - len(known),
        statistics=_statistics(basis, member.statistics, settings),
        covered=sum(at < member.covered for at in known),
        kept=None if member.kept is None else scores.loads(member.kept),
        spent=member.spent,
    )


def _knows(basis: plora.Basis, label: str) -> bool:
    return basis.kind is plora.Kind.CAUSAL_LM or label in basis.labels


def _statistics(basis: plora.Basis, content: bytes | None, settings: plora.FitSettings) -> plora.Statistics | None:
    """None, after which the member is fitted anew, also where they are of another release, Basis or prior.

    With privacy always: they were told without noise.
    """
    if content is None or settings.privacy is not None or settings.optimizer is not plora.Optimizer.NEWTON:
        return None
    try:
        statistics = plora.loads_statistics(content)
    except plora.PLoRAError:
        return None
    fits = statistics.basis == basis.fingerprint and statistics.prior == settings.prior
    return statistics if fits else None
