"""LoRA without users: trained on the population, the same answers for everybody however much a user has given."""

from collections.abc import Sequence

import torch

from benchmarks.quality.folds import Person
from benchmarks.quality.methods import Said
from benchmarks.quality.peers.voices import VectorVoice, answers, asked
from benchmarks.quality.shared import Shared


class PlainLora:
    """One model for all."""

    name = "plain_lora"

    def __init__(self, shared: Shared) -> None:
        self._voice = VectorVoice(shared.base, shared.plain.basis)

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:  # noqa: ARG002
        tests = asked(self._voice, [person.test for person in people])
        nobody = torch.zeros(len(people), self._voice.engine.basis.spec.dimensions)
        return Said(answers(self._voice, tests, nobody), 0.0, 0)
