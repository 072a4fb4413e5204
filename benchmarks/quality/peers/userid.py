"""UserIdentifier (Mireshghallah et al., NAACL-22): a fixed random string of tokens before each of a user's texts.

One LoRA for all is trained on the population's texts, each with its user's string; nothing else is personal. A user of
the population is answered directly. Newcomers are learned as that training would have learned them: it goes on, from
where it ended, on the first k rows (64 at most) of all newcomers together, with strings of their own, beside some rows
of the population that keep the model in place, for three epochs, at the rate that serves the trial's people best. So
newcomers' answers depend on each other here, as nowhere else. Zero shots are answered with a string that the model has
never met. A user costs its string alone.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.quality.fits import processor_seconds
from benchmarks.quality.folds import Person
from benchmarks.quality.methods import Said
from benchmarks.quality.peers.descended import MOST_ROWS
from benchmarks.quality.peers.training import trained
from benchmarks.quality.peers.trial import Choice, mean_loss
from benchmarks.quality.peers.voices import VectorVoice, answers, asked
from benchmarks.quality.settings import ZERO
from benchmarks.quality.shared import Shared
from plora import BaseModel, Basis, Example, MutualInformation, find_targets, fresh_basis
from plora.basis import BasisSpec

TOKENS = 10
EPOCHS = 3
REHEARSED = 256
"""Rows of the population in each of those epochs."""

SHARES = (0.3, 1.0, 2.0)
"""Of the population's rate, for going on with newcomers."""

BYTES_PER_TOKEN = 2


class UserId:
    """Trained on the population when it is made."""

    name = "userid"

    def __init__(self, shared: Shared) -> None:
        self._base = shared.base
        self._settings = replace(
            shared.population_settings,
            label_bias=False,
            dimensions=1,
            personalized_dropout=1.0,
            mutual_information=MutualInformation.NONE,
        )
        spec = BasisSpec(
            base=self._base.fingerprint,
            kind=self._base.kind,
            labels=shared.fold.labels,
            targets=find_targets(self._base.module, self._settings.targets, self._settings.last_layers),
            rank=self._settings.rank,
            alpha=self._settings.alpha,
            dimensions=1,
            link=self._settings.link,
        )
        fresh = fresh_basis(self._base.module, spec, self._settings.seed)
        users = [self._named(person.name, person.learn) for person in shared.fold.population]
        self._basis, _ = trained(self._base, fresh, users, self._settings)
        self._rehearsed = [rows[: -(-REHEARSED // len(users))] for rows in users]
        self._tried: UserId | None = None
        self.choice = Choice(shared, SHARES, self._cost)

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:
        basis, seconds = self._basis, 0.0
        if shots != ZERO and not known:
            share = self.choice.at(shots)
            with processor_seconds() as spent:
                basis = self.gone_on(people, shots, share)
            seconds = spent[0] / max(1, len(people))
        return Said(self.answers(basis, people), seconds, TOKENS * BYTES_PER_TOKEN)

    def gone_on(self, people: Sequence[Person], shots: int, share: float) -> Basis:
        """The shared training continued; without weight decay, which would take from what was learned before."""
        users = [self._named(person.name, person.first(shots)[:MOST_ROWS]) for person in people]
        rate = share * self._settings.shared_rate
        settings = replace(self._settings, epochs=EPOCHS, shared_rate=rate, weight_decay=0.0)
        return trained(self._base, self._basis, [*users, *self._rehearsed], settings)[0]

    def answers(self, basis: Basis, people: Sequence[Person]) -> tuple[Tensor, ...]:
        voice = VectorVoice(self._base, basis)
        tests = asked(voice, [self._named(person.name, person.test) for person in people])
        return answers(voice, tests, torch.zeros(len(people), 1))

    def _cost(self, inner: Shared, shots: int, share: float) -> float:
        if self._tried is None:
            self._tried = UserId(inner)
        people = inner.fold.newcomers
        basis = self._tried.gone_on(people, shots, share)
        return mean_loss(self._tried.answers(basis, people), inner.fold)

    def _named(self, name: str, examples: Sequence[Example]) -> list[Example]:
        words = identifier(self._base, name, self._settings.seed)
        return [Example(f"{words} {example.text}", example.target) for example in examples]


def identifier(base: BaseModel, name: str, seed: int) -> str:
    """The user's string: tokens drawn from the whole vocabulary, a hash of the name being the seed."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    special = set(base.tokenizer.all_special_ids)
    tokens = [token for token in range(base.tokenizer.vocab_size) if token not in special]
    return str(base.tokenizer.decode(random.Random(digest).choices(tokens, k=TOKENS)))
