"""PLoRA (Zhang et al., AAAI-24) as its published code does it, on our base model.

As there: d = 512, r = 64, alpha = 128, query and value, element dropout 0.1 on texts and vectors, personalized dropout
0.1 (its RoBERTa and T5 configurations), the table of users from zeros, labels without an order, AdamW, no prior. The
mutual-information terms are its own with weight 0.1: the released configurations switch them off and the weight is not
in the repository. A newcomer's vector alone is fitted, from zeros, by AdamW with 16 rows in a batch.

Not as there: learning rates and epochs are ours (2e-5 leaves this small model as it was), the blocks are those that
every method adapts, no element dropout in the fit of a newcomer, no weight decay on the population's table, and
the users' vectors are kept, which that code forgets to save.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.quality.folds import Person
from benchmarks.quality.methods import Said
from benchmarks.quality.peers.descended import BYTES_PER_NUMBER, Begun, Descended
from benchmarks.quality.peers.descent import Course
from benchmarks.quality.peers.training import trained
from benchmarks.quality.peers.voices import VectorVoice
from benchmarks.quality.shared import Shared
from plora import Basis, MutualInformation, PopulationSettings, find_targets, fresh_basis
from plora.basis import BasisSpec
from plora.links import Link

DIMENSIONS, RANK, ALPHA = 512, 64, 128.0
RATES = (1e-2, 3e-2, 1e-1)
STEPS = 12


class PloraReference:
    """Trained on the population when it is made; its users keep the vectors that were trained with the Basis."""

    name = "plora_reference"

    def __init__(self, shared: Shared) -> None:
        self._table: dict[str, Tensor] = {}
        self._newcomers = Descended(self.name, self._begin, shared, rates=RATES, course=Course(RATES[0], steps=STEPS))

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:
        if not known:
            return self._newcomers.say(people, shots, known)
        vectors = torch.stack([self._table[person.name] for person in people])
        return Said(self._newcomers.begun.answers(people, vectors), 0.0, BYTES_PER_NUMBER * DIMENSIONS)

    def _begin(self, shared: Shared) -> Begun:
        basis, vectors = train(shared)
        people = shared.fold.population
        found = {person.name: vector for person, vector in zip(people, vectors, strict=True)}
        self._table = found | self._table  # a later trial's vectors are of another Basis
        return Begun(VectorVoice(shared.base, basis), torch.zeros(DIMENSIONS))


def train(shared: Shared) -> tuple[Basis, Tensor]:
    """The Basis and the (people, d) table of a fold's population."""
    settings, base = reference(shared.population_settings), shared.base
    spec = BasisSpec(
        base=base.fingerprint,
        kind=base.kind,
        labels=shared.fold.labels,
        targets=find_targets(base.module, settings.targets, settings.last_layers),
        rank=RANK,
        alpha=ALPHA,
        dimensions=DIMENSIONS,
        link=settings.link,
    )
    users = [person.learn for person in shared.fold.population]
    return trained(base, fresh_basis(base.module, spec, settings.seed), users, settings)


def reference(ours: PopulationSettings) -> PopulationSettings:
    """Our rates, epochs and blocks, everything else the published code's."""
    return replace(
        ours,
        rank=RANK,
        alpha=ALPHA,
        dimensions=DIMENSIONS,
        label_bias=False,
        prior=0.0,
        personalized_dropout=0.1,
        dropout=0.1,
        mutual_information=MutualInformation.REFERENCE,
        mutual_information_weight=0.1,
        link=Link.CATEGORICAL,
    )
