"""Raw results: one file for each data set, seed and method, with everything the measures of its people come from.

Users are pseudonyms and texts are not there. A file is replaced whole after each part, so that a killed run leaves
whole files and goes on after the last part written.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.quality.metrics import Told
from benchmarks.quality.settings import Settings

FOLDER = "raw"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a method said in one part; `seconds` and `bytes` are of one person."""

    seconds: float
    bytes: int
    people: tuple[Told, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Raw:
    """`key` names the data and settings; `labels` are the `known` of the fold and then those that only tests have.

    `parts` holds None for a part in which the method has no answer. `absent` says why the method could not run.
    """

    key: str
    commit: str | None
    dataset: str
    seed: int
    method: str
    labels: tuple[str, ...]
    known: int
    ordinal: bool
    parts: dict[str, Answered | None]
    absent: str = ""
    failed: str = ""

    def with_part(self, part: str, answered: Answered | None) -> "Raw":
        return replace(self, parts=self.parts | {part: answered}, absent="", failed="")


def key_of(fold_digest: str, settings: Settings) -> str:
    """Results under another key are of other people or settings, and are measured anew."""
    free = replace(settings, seeds=(), draws=0, threads=1, shots=(), quick=False, full_people=0)
    return hashlib.sha256(f"{fold_digest}|{free!r}".encode()).hexdigest()


def pseudonym(dataset: str, user: str) -> str:
    return hashlib.sha256(f"{dataset}:{user}".encode()).hexdigest()[:12]


def place(out: Path, dataset: str, seed: int, method: str) -> Path:
    return out / FOLDER / f"{dataset}-{seed}-{method}.json"


def write(out: Path, raw: Raw) -> None:
    file = place(out, raw.dataset, raw.seed, raw.method)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(_dumped(raw), separators=(",", ":")) + "\n")
    os.replace(fresh, file)


def read(file: Path) -> Raw | None:
    """None where there is no such file, or it is of another form."""
    try:
        found = json.loads(file.read_text())
        return _loaded(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_all(out: Path) -> list[Raw]:
    """Every whole raw file under `out`, in a fixed order."""
    found = [read(file) for file in sorted((out / FOLDER).glob("*.json"))]
    return [raw for raw in found if raw is not None]


def _dumped(raw: Raw) -> dict[str, object]:
    parts = {
        name: None
        if one is None
        else {"seconds": one.seconds, "bytes": one.bytes, "people": [told.to_dict() for told in one.people]}
        for name, one in raw.parts.items()
    }
    names = ("key", "commit", "dataset", "seed", "method", "labels", "known", "ordinal", "absent", "failed")
    return {name: getattr(raw, name) for name in names} | {"parts": parts}


def _loaded(found: dict) -> Raw:  # type: ignore[type-arg]
    parts = {
        name: None
        if one is None
        else Answered(one["seconds"], one["bytes"], tuple(Told.from_dict(told) for told in one["people"]))
        for name, one in found.pop("parts").items()
    }
    labels = tuple(found.pop("labels"))
    return Raw(labels=labels, parts=parts, **found)
