"""One Basis at work: people's vectors fitted, each once for all the methods that use it, and answers under vectors."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

import plora
from benchmarks.quality.folds import Person
from plora import BaseModel, Basis, Engine, Example, FitFailed, FitSettings, Fitted
from plora.examples import encode_all
from plora.passes import passes


@dataclass(frozen=True, slots=True)
class Made:
    """One outcome for each person in order; processor seconds and stored bytes are of one person."""

    outcomes: tuple[Fitted | FitFailed, ...] = field(repr=False)
    seconds: float
    bytes: int


class Fits:
    """Keeps what the lower blocks gave for tests until `close`; fits pay for their own passes in full."""

    def __init__(self, base: BaseModel, basis: Basis, labels: Sequence[str], settings: FitSettings) -> None:
        self.basis, self.settings = basis, settings
        self._base = base
        self._columns = torch.tensor([basis.labels.index(label) for label in labels])
        self._fitting, self._answering = Engine(base, basis, settings.precision), Engine(base, basis)
        self._kept = self._answering.keeping()
        self._kept.__enter__()
        self._made: dict[tuple[tuple[str, ...], int], Made] = {}
        self._generic: dict[str, Tensor] = {}

    def close(self) -> None:
        """Zero and drop what was kept of the texts."""
        self._generic.clear()
        self._kept.__exit__(None, None, None)

    def fit(self, people: Sequence[Person], shots: int) -> Made:
        """`plora.fit` on each person's first `shots` rows, in one cohort."""
        key = tuple(person.name for person in people), shots
        if key not in self._made:
            self._made[key] = self._fit([person.first(shots) for person in people])
        return self._made[key]

    def vectors(self, people: Sequence[Person], shots: int) -> Tensor:
        """(people, d): fitted vectors, and 0, the generic model, for those whose fit gave nothing."""
        found = [
            one.adapter.vector if isinstance(one, Fitted) else self.nobody for one in self.fit(people, shots).outcomes
        ]
        return torch.stack(found)

    @property
    def nobody(self) -> Tensor:
        """(d,) the generic model's vector."""
        return torch.zeros(self.basis.spec.dimensions)

    def answers(self, people: Sequence[Person], vectors: Tensor) -> tuple[Tensor, ...]:
        """(tests, labels) log-probabilities, float64, for each person under its row of `vectors` (people, d)."""
        counts = [len(person.test) for person in people]
        owned = vectors.repeat_interleave(torch.tensor(counts), 0)
        return torch.split(self._chances(self._answering, _tests(people), owned), counts)

    def generic_answers(self, people: Sequence[Person]) -> tuple[Tensor, ...]:
        """The same under nobody's vector; each text is run once for all that is ever asked."""
        missing = {one.text: one for one in _tests(people) if one.text not in self._generic}
        if missing:
            self._generic |= zip(missing, self._chances(self._answering, [*missing.values()], None), strict=True)
        return tuple(torch.stack([self._generic[one.text] for one in person.test]) for person in people)

    def generic_learned(self, people: Sequence[Person], shots: int) -> tuple[Tensor, ...]:
        """(learned rows, labels) under nobody's vector, with nothing kept from before."""
        learned = [person.first(shots) for person in people]
        found = self._chances(self._fitting, [one for part in learned for one in part], None)
        return torch.split(found, [len(part) for part in learned])

    def _chances(self, engine: Engine, examples: Sequence[Example], vectors: Tensor | None) -> Tensor:
        """(examples, labels); vectors: (examples, d)."""
        some = self.basis.labels[0]  # the text alone is run: a test's label may be one that the Basis lacks
        rows = encode_all(self._base, self.basis, [Example(one.text, some) for one in examples])
        with passes(engine, rows) as run:
            if vectors is None:
                logits = run.alike(None, lambda found, _: found, torch.ones(run.count, dtype=torch.bool))
            else:
                logits = run.each(vectors, lambda found, _: found)
        return logits.double().log_softmax(-1)[:, self._columns]

    def _fit(self, cohort: Sequence[Sequence[Example]]) -> Made:
        start = time.process_time()
        outcomes = plora.fit(self._base, self.basis, cohort, self.settings, engine=self._fitting)
        seconds = (time.process_time() - start) / len(cohort)
        sizes = [len(plora.dumps(one.adapter)) for one in outcomes if isinstance(one, Fitted)]
        return Made(tuple(outcomes), seconds, round(sum(sizes) / max(1, len(sizes))))


def _tests(people: Sequence[Person]) -> list[Example]:
    return [example for person in people for example in person.test]


@contextmanager
def processor_seconds() -> Iterator[list[float]]:
    """A list that holds, after the `with`, the processor seconds spent inside."""
    spent: list[float] = []
    start = time.process_time()
    yield spent
    spent.append(time.process_time() - start)
