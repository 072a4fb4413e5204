"""Streams of events: a newcomer's rows in order, and what happens to them on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from benchmarks.quality.folds import Fold, Person
from plora import Example

BEFORE, AFTER = 24, 24
"""Events before and after the moment at which a user changes."""


class Story(Enum):
    """Nothing happens; every answer turns into its mirror image; somebody else goes on in the user's name."""

    STEADY = "steady"
    MIRRORED = "mirrored"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Stream:
    """One user's events in the order they come; `turn` is the number of those before the change."""

    events: tuple[Example, ...] = field(repr=False)
    turn: int


def streams(fold: Fold, story: Story) -> list[Stream]:
    """Of every newcomer with enough rows: those to learn from first, those to be tested on after them."""
    able = [person for person in fold.newcomers if len(_all(person)) >= BEFORE + AFTER]
    found = []
    for person in able:
        before, after = _all(person)[:BEFORE], _all(person)[BEFORE : BEFORE + AFTER]
        if story is Story.MIRRORED:
            after = tuple(Example(each.text, _mirror(each.target, fold.labels)) for each in after)
        elif story is Story.REPLACED:
            after = _all(_stranger(person, able))[BEFORE : BEFORE + AFTER]
        found.append(Stream((*before, *after), BEFORE))
    return found


def _all(person: Person) -> tuple[Example, ...]:
    return (*person.learn, *person.test)


def _mirror(label: str, labels: Sequence[str]) -> str:
    """The label on the other end: of three, the first and the last change places."""
    return labels[len(labels) - 1 - labels.index(label)] if label in labels else label


def _stranger(person: Person, people: Sequence[Person]) -> Person:
    """Who agrees with this user least on the texts that both have answered."""
    own = {each.text: each.target for each in _all(person)}

    def agreement(other: Person) -> tuple[float, str]:
        both = [own[each.text] == each.target for each in _all(other) if each.text in own]
        return (sum(both) + 1) / (len(both) + 2), other.name

    return min((other for other in people if other is not person), key=agreement)
