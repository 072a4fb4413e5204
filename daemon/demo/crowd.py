"""Who takes part in the demo: users whose examples train the Basis, and newcomers with a few examples each."""

import gzip
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from daemon.demo.generator import ceiling, people, reactions
from daemon.errors import DaemonError

NEWCOMER_EXAMPLES = 16
POPULATION_EXAMPLES = 27
POPULATION, NEWCOMERS = "population", "newcomers"
UNSEEN = {POPULATION: 40, NEWCOMERS: 40}
"""Held-out examples per user that only the demo's last step asks about."""


class BadRows(DaemonError):
    """The data file does not hold rows of user, text and label, or too few."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(line, what)
        self.line, self.what = line, what

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f'{where}{self.what}; rows look like {{"user": "a", "text": "...", "label": "x", "split": "train"}}'


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its label."""

    text: str = field(repr=False)
    label: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Participant:
    """One user of the demo: what they tell the system, and what they are asked about at the end."""

    id: str = field(repr=False)
    stage: str
    told: tuple[Labelled, ...] = field(repr=False)
    unseen: tuple[Labelled, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Everybody, and the accuracy that nobody can exceed where it is known."""

    source: str
    participants: tuple[Participant, ...] = field(repr=False)
    ceiling: float | None = None

    def of(self, stage: str) -> list[Participant]:
        return [one for one in self.participants if one.stage == stage]


def simulated(population: int = 140, newcomers: int = 40, seed: int = 1) -> Crowd:
    """Simulated people; the two groups are drawn apart from the same common tastes."""
    made: list[Participant] = []
    ceilings: list[float] = []
    for stage, count, examples in (
        (POPULATION, population, POPULATION_EXAMPLES),
        (NEWCOMERS, newcomers, NEWCOMER_EXAMPLES),
    ):
        group = seed if stage == POPULATION else seed + 1_000
        for person in people(count, group):
            shown = reactions(person, examples + UNSEEN[stage], group)
            ceilings.append(ceiling(shown[examples:]))
            pairs = [Labelled(reaction.text, reaction.label) for reaction in shown]
            made.append(Participant(person.id, stage, tuple(pairs[:examples]), tuple(pairs[examples:])))
    return Crowd("simulated people", tuple(made), sum(ceilings) / len(ceilings))


def from_file(path: Path, seed: int = 1) -> Crowd:
    """Real people from a .jsonl or .jsonl.gz file of user, text, label and perhaps split rows.

    Up to 40 users (a third of them all at most) arrive late with at most 16 training rows; others train the Basis. The
    longer the texts, the fewer take part: the demo is to end within minutes. Raises BadRows.
    """
    try:
        told, unseen = _split(_rows(path))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadRows(0, f"{path} cannot be read ({type(error).__name__})") from error
    users = sorted(user for user in told if unseen.get(user) and len(told[user]) >= 4)
    if len(users) < 6:
        raise BadRows(0, f"{len(users)} users have 4 training rows and an unseen one, 6 are needed")
    random.Random(f"roles/{seed}").shuffle(users)
    share = _share(told)
    late = min(40, len(users) // 3)
    few = min(NEWCOMER_EXAMPLES, *(len(told[user]) for user in users[:late]))  # every newcomer tells the same number
    made = []
    for place, user in enumerate(users[: late + max(40, int(140 * share))]):
        stage, most = (NEWCOMERS, few) if place < late else (POPULATION, POPULATION_EXAMPLES)
        draw = random.Random(f"rows/{seed}/{user}")
        chosen = draw.sample(told[user], min(most, len(told[user])))
        asked = draw.sample(unseen[user], min(max(12, int(UNSEEN[stage] * share)), len(unseen[user])))
        made.append(Participant(user, stage, tuple(chosen), tuple(asked)))
    return Crowd(path.name, tuple(made))


def _share(told: dict[str, list[Labelled]]) -> float:
    """How much of the simulated demo's size these texts allow: its texts are some 10 words, and 45 fill the model."""
    lengths = [len(row.text.split()) for rows in told.values() for row in rows]
    return min(1.0, 10 / max(1.0, min(45.0, sum(lengths) / len(lengths))))


def _rows(path: Path) -> Iterable[tuple[str, Labelled, str | None]]:
    packed = path.suffix == ".gz"
    with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                user, text, label, split = row["user"], row["text"], row["label"], row.get("split")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadRows(number, f"no row ({type(error).__name__})") from error
            if not isinstance(text, str) or isinstance(label, (dict, list, type(None))):
                raise BadRows(number, "the text is not a string or the label not a plain value")
            yield str(user).replace("/", "_"), Labelled(text, str(label)), split


def _split(
    rows: Iterable[tuple[str, Labelled, str | None]],
) -> tuple[dict[str, list[Labelled]], dict[str, list[Labelled]]]:
    """Training and unseen rows by user; without a split, every third text is unseen, for every user alike."""
    told: dict[str, list[Labelled]] = {}
    unseen: dict[str, list[Labelled]] = {}
    for user, example, split in rows:
        held = random.Random(f"split/{example.text}").random() < 1 / 3 if split is None else split != "train"
        (unseen if held else told).setdefault(user, []).append(example)
    return told, unseen
