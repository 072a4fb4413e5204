"""Simulated people with tastes of their own, and the short product reviews they react to.

Each text mentions a few aspects of a product, each at one of two poles (quiet or loud, mild or hot, ...). A user likes
a product when the poles it shows, weighed by the user's own weights, plus the user's rating bias and noise, are
positive. Weights come from a few common tastes and a private part, so that a population can teach what a newcomer's
few examples then place; and since weights, bias and noise are known, so is the accuracy nobody can exceed.
"""

import math
import random
from dataclasses import dataclass, field

ASPECTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sound": (("whisper quiet", "almost silent"), ("really loud", "noisy")),
    "size": (("tiny", "pocket sized"), ("huge", "oversized")),
    "colour": (("plain grey", "simple black"), ("bright red", "neon pink")),
    "taste": (("mild", "unseasoned"), ("spicy", "fiery hot")),
    "style": (("minimal", "understated"), ("ornate", "richly decorated")),
}
PRODUCTS = ("lamp", "bag", "kettle", "jacket", "snack", "speaker", "chair", "case", "sauce", "blanket")
OPENINGS = ("it is", "I found it", "quite", "clearly", "as ordered")
LABELS = ("dislike", "like")
TASTES = 2
"""Common tastes that every user's weights are mixed from."""


@dataclass(frozen=True, slots=True)
class Person:
    """One simulated user: an opaque id, a weight for each aspect, and a rating bias."""

    id: str = field(repr=False)
    weights: tuple[float, ...]
    bias: float


@dataclass(frozen=True, slots=True)
class Review:
    """A text and what it says: for each aspect -1, +1, or 0 where it is not mentioned."""

    text: str = field(repr=False)
    poles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one person made of one review; `likes` is the chance that they would say "like"."""

    text: str = field(repr=False)
    label: str
    likes: float


def people(count: int, seed: int) -> list[Person]:
    """`count` persons; the common tastes depend on nothing but the aspects, so populations can be compared."""
    common = random.Random("tastes")
    tastes = [[common.gauss(0, 1) for _ in ASPECTS] for _ in range(TASTES)]
    draw = random.Random(f"people/{seed}")
    made = []
    for index in range(count):
        mix = [draw.gauss(0, 1) for _ in range(TASTES)]
        weights = [
            sum(m * taste[a] for m, taste in zip(mix, tastes, strict=True)) + draw.gauss(0, 0.3)
            for a in range(len(ASPECTS))
        ]
        size = math.sqrt(sum(w * w for w in weights))
        made.append(Person(f"person-{seed}-{index:04d}", tuple(8.0 * w / size for w in weights), draw.gauss(0, 0.6)))
    return made


def review(draw: random.Random) -> Review:
    """A short text about one or two aspects."""
    names = list(ASPECTS)
    chosen = draw.sample(range(len(names)), draw.choice((1, 2, 2)))
    poles, parts = [0] * len(names), []
    for aspect in chosen:
        pole = draw.choice((-1, 1))
        poles[aspect] = pole
        parts.append(draw.choice(ASPECTS[names[aspect]][0 if pole < 0 else 1]))
    return Review(f"{draw.choice(PRODUCTS)}: {draw.choice(OPENINGS)} {' and '.join(parts)}", tuple(poles))


def reactions(person: Person, count: int, seed: int) -> list[Reaction]:
    """`count` reviews with this person's labels, no text twice."""
    draw = random.Random(f"reactions/{seed}/{person.id}")
    made: list[Reaction] = []
    seen: set[str] = set()
    while len(made) < count:
        shown = review(draw)
        if shown.text in seen:
            continue
        seen.add(shown.text)
        score = sum(w * p for w, p in zip(person.weights, shown.poles, strict=True)) + person.bias
        likes = 1 / (1 + math.exp(-score))
        made.append(Reaction(shown.text, LABELS[int(draw.random() < likes)], likes))
    return made


def ceiling(shown: list[Reaction]) -> float:
    """The mean accuracy of someone who knows every weight: nobody can expect more on these reactions."""
    return sum(max(r.likes, 1 - r.likes) for r in shown) / len(shown)
