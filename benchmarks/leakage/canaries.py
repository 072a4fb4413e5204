"""Canaries: sequences of letters that nobody else ever wrote, with a label by lot.

Each has a twin that nobody learns, with other letters and the same label: what tells the two apart is memory alone.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from plora import Example

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS, LETTERS_EACH = 5, 5


@dataclass(frozen=True, slots=True)
class Canaries:
    """One person's: what is learned, and the twins that are not."""

    learned: tuple[Example, ...] = field(repr=False)
    twins: tuple[Example, ...] = field(repr=False)


def canaries(people: int, each: int, labels: Sequence[str], seed: int) -> list[Canaries]:
    """`each` for each of so many people; labels take their turn in a drawn order, so that all have the same."""
    draw = random.Random(f"canaries:{seed}")
    found = []
    for _ in range(people):
        said = [labels[at % len(labels)] for at in range(each)]
        draw.shuffle(said)
        learned, twins = (tuple(Example(_text(draw), label) for label in said) for _ in range(2))
        found.append(Canaries(learned, twins))
    return found


def _text(draw: random.Random) -> str:
    return " ".join("".join(draw.choices(LETTERS, k=LETTERS_EACH)) for _ in range(WORDS))
