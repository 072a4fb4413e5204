"""What could rightly have been answered when: every move of a user's pointer, and the answers held against them."""

from collections import defaultdict
from dataclasses import dataclass

from benchmarks.predict.asking import Asked
from benchmarks.predict.world import Chances, Person

TOLERANCE = 2e-4
"""Between an answer alone and one among others, in probability: rounding, of which a wrong adapter is far."""


@dataclass(frozen=True, slots=True)
class Moved:
    """From `begun` on the move may have been made, by `done` it was: `version` serves. Seconds of one clock."""

    begun: float
    done: float
    version: int


@dataclass(slots=True)
class Tally:
    """Answers by what they were. `stale` is a version that had certainly ceased to serve when the request was sent."""

    right: int = 0
    wrong: int = 0
    stale: int = 0
    failed: int = 0

    @property
    def asked(self) -> int:
        return self.right + self.wrong + self.stale + self.failed


class History:
    """Of users who were all seen to be served by their first version at the start."""

    def __init__(self) -> None:
        self._moves: defaultdict[str, list[Moved]] = defaultdict(list)
        self.tally = Tally()

    def moved(self, person: Person, move: Moved) -> None:
        """Note a move that has been made; those of one user one after another."""
        self._moves[person.id].append(move)

    def could(self, person: Person, sent: float, answered: float) -> set[int]:
        """The versions that may have served at some moment between."""
        moves = self._moves[person.id]
        found = {move.version for move in moves if move.begun <= answered}
        done = [at for at, move in enumerate(moves) if move.done <= sent]
        if not done:
            return found | {1}
        newest = done[-1]
        return {move.version for move in moves[newest:] if move.begun <= answered}

    def hear(self, asked: Asked) -> None:
        """Judge an answer, once every move that was begun before it is noted."""
        if asked.status != 200:
            self.tally.failed += 1
        elif not _says(asked.person, asked):
            self.tally.wrong += 1
        elif asked.version not in self.could(asked.person, asked.sent, asked.answered):
            self.tally.stale += 1
        else:
            self.tally.right += 1


def _says(person: Person, asked: Asked) -> bool:
    """Whether these are the words of the version that the answer names."""
    known = person.answers.get(asked.version)
    return known is not None and _near(known[asked.text], asked.chances)


def _near(known: Chances, found: Chances) -> bool:
    return all(abs(a - b) <= TOLERANCE for a, b in zip(known, found, strict=True))
