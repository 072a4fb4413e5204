"""Raw results of free text: one file for each data set and seed, so that a killed run goes on after the last fold.

Users are pseudonyms; a file holds figures alone.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks.quality import folds
from benchmarks.quality.text.people import Group
from benchmarks.quality.text.settings import TextSettings

FOLDER = "raw_text"


@dataclass(frozen=True, slots=True)
class Said:
    """A method after `shots` of each newcomer's rows: (users,) bits per token, in the order of the fold's newcomers.

    `seconds` and `bytes` are of one user.
    """

    method: str
    shots: int
    bits: tuple[float, ...] = field(repr=False)
    seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Raw:
    """A fold. `learned` counts each user's rows to learn from, `tokens` those of its test; `notes` are facts."""

    key: str
    dataset: str
    seed: int
    users: tuple[str, ...]
    learned: tuple[int, ...]
    tokens: tuple[int, ...]
    said: tuple[Said, ...]
    notes: dict[str, object]


def key_of(group: Group, settings: TextSettings) -> str:
    """Results under another key are of other people or settings, and are measured anew."""
    free = replace(settings, seeds=(), draws=0)
    return hashlib.sha256(f"{folds.digest(group.fold)}|{free!r}".encode()).hexdigest()


def pseudonym(dataset: str, user: str) -> str:
    return hashlib.sha256(f"{dataset}:{user}".encode()).hexdigest()[:12]


def place(out: Path, dataset: str, seed: int) -> Path:
    return out / FOLDER / f"{dataset}-{seed}.json"


def write(out: Path, raw: Raw) -> None:
    file = place(out, raw.dataset, raw.seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(raw), separators=(",", ":")) + "\n")
    os.replace(fresh, file)


def read(file: Path) -> Raw | None:
    """None where there is no such file, or it is of another form."""
    try:
        found = json.loads(file.read_text())
        said = tuple(Said(**(each | {"bits": tuple(each["bits"])})) for each in found.pop("said"))
        users, learned, tokens = (tuple(found.pop(name)) for name in ("users", "learned", "tokens"))
        return Raw(said=said, users=users, learned=learned, tokens=tokens, **found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
