"""Whether a user's next fit goes on from what the last one kept, or begins anew."""

from collections.abc import Collection
from dataclasses import dataclass

from policies.decision import Decision
from policies.facts import distinct, finite
from policies.selection import Selection


@dataclass(frozen=True, slots=True)
class Growth:
    """How much a fit may go on."""

    most_new: float = 0.5  # new examples, as a share of those covered. 0: every fit begins anew

    def __post_init__(self) -> None:
        finite("Growth.most_new", self.most_new, most=1.0)


@dataclass(frozen=True, slots=True)
class Refit(Decision):
    """Go on from the statistics, which cover the ids `covered`, with the ids `new`."""

    covered: tuple[int, ...]
    new: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Full(Decision):
    """Fit anew from all there is to learn from."""


def how(selection: Selection, covered: Collection[int], growth: Growth) -> Refit | Full:
    """Decide how to learn from `selection`, where the current version's statistics cover the ids `covered`.

    What statistics cover can not be taken out of them, so an example that is no longer learnt from ends them: it was
    deleted, corrected, pushed out by newer ones, or came before the user changed. New examples judge the fit, so those
    that the Basis has seen end them too.
    """
    distinct("covered", list(covered))
    if not covered:
        return Full("there are no statistics to go on from", "no_statistics")
    if not growth.most_new:
        return Full("every fit is to begin anew", "refits_off")
    known = frozenset(covered)
    dropped = len(known.difference(selection.learn))
    if dropped:
        return Full(f"{dropped} of {len(known)} covered examples are not learnt from any more", "example_dropped")
    new = tuple(each for each in selection.learn if each not in known)
    if not set(new) <= set(selection.judged):
        return Full("a new example taught the basis and can not judge", "new_is_seen")
    if len(new) > growth.most_new * len(known):
        return Full(f"{len(new)} new examples beside {len(known)} covered ones", "too_much_new")
    old = tuple(each for each in selection.learn if each in known)
    return Refit(f"{len(new)} new examples beside {len(known)} covered ones", "goes_on", old, new)
