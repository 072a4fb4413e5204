"""One fold, measured: every method makes what it needs, answers in every part, and leaves its raw results."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.fit.peers import PeftAbsent
from benchmarks.quality import folds, raws
from benchmarks.quality.folds import Fold
from benchmarks.quality.methods import Method, Unavailable
from benchmarks.quality.metrics import WrongAnswer, told
from benchmarks.quality.parts import Part, parts, people_of
from benchmarks.quality.raws import Answered, Raw
from benchmarks.quality.registry import METHODS
from benchmarks.quality.regressions import SklearnAbsent, limited_threads
from benchmarks.quality.settings import Settings
from benchmarks.quality.shared import Shared
from benchmarks.quality.source import DataError, read
from plora import PLoRAError

Say = Callable[[str], None]
EXPLAINED = (PLoRAError, DataError, WrongAnswer)
"""Errors whose words hold nobody's content."""

BASES = "bases"


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is told: which file and seed, by which methods, where to."""

    file: Path
    seed: int
    methods: tuple[str, ...]
    settings: Settings
    out: Path
    commit: str | None


def measure_fold(order: Order, say: Say) -> None:
    """Raises DataError where no fold can be made. A method's failure is written down, and the next one's turn comes."""
    torch.set_num_threads(order.settings.threads)
    fold = folds.make(read(order.file), order.seed, order.settings)
    shared = Shared(fold, order.settings, order.out / BASES)
    try:
        with limited_threads(order.settings.threads):
            for name in order.methods:
                _measure(order, shared, name, say)
    finally:
        shared.close()


def _measure(order: Order, shared: Shared, name: str, say: Say) -> None:
    raw = _begun(order, shared.fold, name)
    missing = [part for part in parts(order.settings) if _lacks(raw, shared.fold, part, order.settings)]
    if not missing:
        return
    try:
        torch.manual_seed(order.seed)
        method = METHODS[name](shared)
        for part in missing:
            raw = raw.with_part(part.key, _answered(method, shared, part, raw.labels))
            raws.write(order.out, raw)
    except (Unavailable, PeftAbsent, SklearnAbsent) as error:
        raws.write(order.out, replace(raw, absent=str(error)))
    except Exception as error:  # noqa: BLE001 - one method's failure must not lose the others' figures
        raws.write(order.out, replace(raw, failed=explained(error)))
    say(f"{shared.fold.dataset}, seed {order.seed}: {name}")


def _begun(order: Order, fold: Fold, name: str) -> Raw:
    """What stands in the file already, if it is of this data and these settings; else nothing."""
    key = raws.key_of(folds.digest(fold), order.settings)
    found = raws.read(raws.place(order.out, fold.dataset, order.seed, name))
    if found is not None and found.key == key:
        return found
    everyone = (*fold.population, *fold.newcomers)
    unseen = {example.target for person in everyone for example in person.test} - set(fold.labels)
    return Raw(
        key=key,
        commit=order.commit,
        dataset=fold.dataset,
        seed=order.seed,
        method=name,
        labels=(*fold.labels, *sorted(unseen)),
        known=len(fold.labels),
        ordinal=fold.ordinal,
        parts={},
    )


def _lacks(raw: Raw, fold: Fold, part: Part, settings: Settings) -> bool:
    """Whether the part is not there, or is of another number of people."""
    if part.key not in raw.parts:
        return True
    answered = raw.parts[part.key]
    return answered is not None and len(answered.people) != len(people_of(fold, part, settings))


def _answered(method: Method, shared: Shared, part: Part, labels: Sequence[str]) -> Answered | None:
    people = people_of(shared.fold, part, shared.settings)
    said = method.say(people, part.shots, part.known)
    if said is None:
        return None
    if len(said.chances) != len(people):
        raise WrongAnswer(f"is for {len(said.chances)} people of {len(people)}")
    known, served = len(shared.fold.labels), said.served or (True,) * len(people)
    found = []
    for person, chances, own in zip(people, said.chances, served, strict=True):
        who = raws.pseudonym(shared.fold.dataset, person.name), len(person.first(part.shots))
        found.append(replace(told(who, person.test, chances, labels, known), served=own))
    return Answered(said.seconds, said.bytes, tuple(found))


def explained(error: Exception) -> str:
    """What failed and where, without content: a foreign error's words may quote a text."""
    if isinstance(error, EXPLAINED):
        return f"{type(error).__name__}: {error}"
    places = [f" in {Path(at.filename).name}, line {at.lineno}" for at in traceback.extract_tb(error.__traceback__)]
    return type(error).__name__ + "".join(places[-1:])
