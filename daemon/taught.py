"""What taught a Basis: population training leaves a share of each user's texts out, which can then judge the user.

Nothing of it is stored but a few numbers in the Basis's report: which texts they were is drawn again.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from daemon.events import LabelledExample, examples_of
from daemon.facts import candidates_of, seed_of
from policies import Policies, PolicyError
from policies.selection import Budget, Division
from storage import BasisRecord, Event, EventKind


@dataclass(frozen=True, slots=True)
class Lesson:
    """A Basis learnt from what was received before it was asked for, `until`, as `budget` had it.

    Whoever had sent fewer than `least_events` by then was not in its population.
    """

    until: datetime
    budget: Budget
    least_events: int = 1


def lesson_of(record: BasisRecord, budget: Budget) -> Lesson:
    """As its report tells; `budget` is today's, for a Basis that was made elsewhere or by an older release."""
    try:
        told = json.loads(record.report or "{}").get("taught", {})
        return Lesson(record.created_at, Budget(**told["selection"]), int(told["least_events"]))
    except (ValueError, TypeError, KeyError, AttributeError, PolicyError):
        return Lesson(record.created_at, budget)


def with_lesson(report: str, lesson: Lesson) -> str:
    """The Trainer's report, with what `lesson_of` reads."""
    told = {"selection": asdict(lesson.budget), "least_events": lesson.least_events}
    return json.dumps(json.loads(report) | {"taught": told})


def taught_by(
    user: str, events: Iterable[Event], lesson: Lesson, divide: Callable[..., object]
) -> list[LabelledExample]:
    """What `user` teaches; everything, if it is too little to be divided."""
    examples = examples_of(event for event in events if event.received_at <= lesson.until)
    division = divide(candidates_of(examples), lesson.budget, seed_of(user))
    if not isinstance(division, Division):
        return examples
    learn = frozenset(division.learn)
    return [each for each in examples if each.seq in learn]


def before(events: Iterable[Event], until: datetime) -> int:
    """How many teaching events were received by then."""
    return sum(event.kind is not EventKind.CONSENT and event.received_at <= until for event in events)


def seen_texts(user: str, events: Sequence[Event], lesson: Lesson, policies: Policies) -> frozenset[str]:
    """The texts of `user` that taught the Basis, as far as is known: rather too many than too few.

    What retention has deleted since cannot be drawn again: then a text that did teach may be taken for unseen.
    """
    if before(events, lesson.until) < lesson.least_events:
        return frozenset()
    return frozenset(each.text for each in taught_by(user, events, lesson, policies.divide))
