"""The Bases of a data set: trained once on its population, kept by content under the output folder."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import plora
from benchmarks.fit.people import ORDERED, Crowd
from benchmarks.fit.stopwatch import every_core
from plora import BaseModel, Basis, PopulationSettings, Reach
from plora.links import Link

PARTS: dict[str, int | None] = {"all": None, "last-2": 2, "last-1": 1}
"""Name of a part of the model -> how many of its last blocks are adapted."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A Basis, the seconds its training took with every core, and whether that was in this run."""

    basis: Basis = field(repr=False)
    seconds: float
    fresh: bool


def trained(base: BaseModel, crowd: Crowd, part: str, epochs: int, folder: Path) -> Trained:
    """Read from `folder`, or trained with every core and written there."""
    link = Link.ORDINAL if crowd.dataset in ORDERED else Link.CATEGORICAL
    settings = PopulationSettings(
        last_layers=PARTS[part],
        epochs=epochs,
        link=link,
        reach=Reach.TARGETS,  # as in the paper: the harder case, where a vector has blocks to go through
        label_bias=False,
        shared_rate=2e-3,
    )
    key = _key(base, crowd.population, settings)
    file, note = folder / f"{key}.basis", folder / f"{key}.seconds"
    if file.exists() and note.exists():
        return Trained(plora.loads_basis(file.read_bytes()), float(note.read_text()), fresh=False)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with every_core():
        basis = plora.train_population(base, crowd.population, settings).basis
    seconds = time.perf_counter() - start
    file.write_bytes(plora.dumps(basis))
    note.write_text(f"{seconds:.1f}")
    return Trained(basis, seconds, fresh=True)


def _key(base: BaseModel, population: Sequence[Sequence[plora.Example]], settings: PopulationSettings) -> str:
    digest = hashlib.sha256(f"{base.fingerprint}|{base.max_tokens}|{settings!r}".encode())
    for user in population:
        for example in user:
            digest.update(repr((example.text, example.target)).encode())
        digest.update(b"|")
    return digest.hexdigest()[:24]
