"""One fold: the model, its Basis and a plain LoRA from the population; then every newcomer by every method."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import plora
from benchmarks.quality.settings import ALL, ZERO
from benchmarks.quality.text.answers import Answers, answers, bits_per_token, log_chances
from benchmarks.quality.text.cache import Cache, Weights, choose, mixed
from benchmarks.quality.text.language import Spoken, spoken
from benchmarks.quality.text.people import Group, halves
from benchmarks.quality.text.raws import Raw, Said, key_of, pseudonym
from benchmarks.quality.text.settings import WHERE, TextSettings
from plora import BaseModel, BasisSpec, Engine, Example, FitSettings, Fitted

BYTES_PER_COUNT = 6
"""Of a cache's entry: a token, the one before, and how often."""

Users = Sequence[Sequence[Example]]


@dataclass(frozen=True, slots=True)
class _Side:
    """People as the models meet them: the newcomers, or the tuners with some of their own rows for a test."""

    learn: Users
    test: Users


def measure(group: Group, settings: TextSettings) -> Raw:
    """Everything that is said of this fold's newcomers."""
    started = time.process_time()
    seed = group.fold.seed
    made = spoken(group.trainers, settings, seed)
    trained = time.process_time()
    rows = [made.examples(person.learn) for person in group.trainers]
    chosen = replace(settings.population, seed=seed)
    population = plora.train_population(made.base, rows, chosen)
    plain = plora.train_population(made.base, rows, replace(chosen, personalized_dropout=1.0))
    shared = time.process_time()
    run = _Fold(group, settings, made, Engine(made.base, population.basis))
    said = [*run.without_users(Engine(made.base, plain.basis)), *run.with_users()]
    notes = {
        "parameters": sum(value.numel() for value in made.base.module.parameters()),
        "vocabulary": len(made.base.tokenizer),
        "prompt_words": made.prompt_words,
        "trainers": len(group.trainers),
        "tuners": len(group.tuners),
        "model_s": trained - started,
        "shared_s": shared - trained,
        "users_s": time.process_time() - shared,
        "history": population.history,
        "weights": run.weights,
    }
    names = tuple(pseudonym(group.fold.dataset, person.name) for person in group.newcomers)
    learned = tuple(len(person.learn) for person in group.newcomers)
    tokens = tuple(sum(map(len, run.tested.tokens(at))) for at in range(len(names)))
    return Raw(key_of(group, settings), group.fold.dataset, seed, names, learned, tokens, tuple(said), notes)


class _Fold:
    """The newcomers of a fold and its Basis."""

    def __init__(self, group: Group, settings: TextSettings, made: Spoken, engine: Engine) -> None:
        self._group, self._settings, self._made, self._engine = group, settings, made, engine
        self.weights: dict[str, tuple[float, float, float]] = {}
        self._new = _side([(person.learn, person.test) for person in group.newcomers], made)
        self.tested = answers(engine, self._new.test)
        self._generic = self._chances(self.tested, None)

    def without_users(self, plain: Engine) -> list[Said]:
        """The Basis with no vector, the language model alone, and a plain LoRA of the same targets."""
        bare = _bare(self._made.base)
        alone = self.tested.per_person([row.exp() for row in log_chances(bare, self.tested, None)])
        asked = answers(plain, self._new.test)
        lora = asked.per_person([row.exp() for row in log_chances(plain, asked, None)])
        named = (("generic", self._generic), ("language_model", alone), ("plain_lora", lora))
        return [_said(name, ZERO, chances) for name, chances in named]

    def with_users(self) -> list[Said]:
        found: list[Said] = []
        for shots in (*self._settings.shots, ALL):
            found += self._after(shots)
        return found

    def _after(self, shots: int) -> list[Said]:
        settings, size = self._settings, 4 * self._engine.basis.spec.dimensions
        learn = _first(self._new.learn, shots)
        vectors, seconds = self._fit(learn, settings.fit)
        ours = self._chances(self.tested, vectors)
        caches = self._caches(learn)
        tuned = _side([halves(person, shots) for person in self._group.tuners], self._made)
        weights, together = self._choose(tuned, shots)
        entries = BYTES_PER_COUNT * sum(len(row.target) for each in learn for row in each) // max(1, len(learn))
        found = [
            _said("ours", shots, ours, seconds, size),
            self._wrong(shots, vectors),
            _said("cache", shots, _mix(self._generic, caches, weights), 0.0, entries),
            _said("ours_cache", shots, _mix(ours, caches, together), seconds, size + entries),
        ]
        if shots in settings.other_shots:
            vectors, seconds = self._fit(learn, settings.other)
            found.append(
                _said(
                    f"ours_{settings.other.optimizer.value}", shots, self._chances(self.tested, vectors), seconds, size
                )
            )
        return found

    def _wrong(self, shots: int, vectors: Tensor) -> Said:
        """Bits under other newcomers' vectors: the mean over several, each so many places further on."""
        count = min(self._settings.wrong_users, len(vectors) - 1)
        turns = [1 + turn * (len(vectors) - 1) // count for turn in range(count)]
        bits = [[bits_per_token(each) for each in self._chances(self.tested, vectors.roll(t, 0))] for t in turns]
        return Said("wrong_user", shots, tuple(sum(each) / count for each in zip(*bits, strict=True)))

    def _choose(self, tuned: _Side, shots: int) -> tuple[Weights, Weights]:
        """The mixture's weights with the generic model and with the people's own, by the tuners."""
        asked = answers(self._engine, tuned.test)
        caches = [
            torch.cat([cache.chances(row) for row in asked.tokens(at)] or [torch.zeros(0, 4, dtype=torch.float64)])
            for at, cache in enumerate(self._cache(tuned.learn))
        ]
        vectors, _ = self._fit(tuned.learn, self._settings.fit)
        found = []
        for name, given in (("cache", None), ("ours_cache", vectors)):
            weights = choose(list(zip(self._chances(asked, given), caches, strict=True)))
            self.weights[f"{name}/{shots}"] = (weights.one, weights.two, weights.trust)
            found.append(weights)
        return found[0], found[1]

    def _fit(self, learn: Users, fit: FitSettings) -> tuple[Tensor, float]:
        """(people, d), the generic model's 0 where a fit failed; processor seconds for each."""
        started = time.process_time()
        basis = self._engine.basis
        fitted = plora.fit(self._made.base, basis, learn, fit, engine=self._engine)
        seconds = (time.process_time() - started) / max(1, len(learn))
        nothing = torch.zeros(basis.spec.dimensions)
        return torch.stack([one.adapter.vector if isinstance(one, Fitted) else nothing for one in fitted]), seconds

    def _chances(self, asked: Answers, vectors: Tensor | None) -> list[Tensor]:
        return asked.per_person([row.exp() for row in log_chances(self._engine, asked, vectors)])

    def _cache(self, learn: Users) -> list[Cache]:
        known = answers(self._engine, learn)
        return [Cache(known.tokens(at)) for at in range(known.people)]

    def _caches(self, learn: Users) -> list[Tensor]:
        """(tokens, 4) of each newcomer's test."""
        made = self._cache(learn)
        return [torch.cat([cache.chances(row) for row in self.tested.tokens(at)]) for at, cache in enumerate(made)]


def _bare(base: BaseModel) -> Engine:
    """The language model without any Basis: with one that changes nothing."""
    spec = BasisSpec(base.fingerprint, base.kind, (), plora.find_targets(base.module, WHERE), rank=1, dimensions=1)
    return Engine(base, plora.fresh_basis(base.module, spec, 0))


def _side(people: Sequence[tuple[Sequence[Example], Sequence[Example]]], made: Spoken) -> _Side:
    return _Side([made.examples(learn) for learn, _ in people], [made.examples(test) for _, test in people])


def _first(learn: Users, shots: int) -> Users:
    return learn if shots < 0 else [each[:shots] for each in learn]


def _mix(chances: Sequence[Tensor], caches: Sequence[Tensor], weights: Weights) -> list[Tensor]:
    return [mixed(each, cached, weights) for each, cached in zip(chances, caches, strict=True)]


def _said(method: str, shots: int, chances: Sequence[Tensor], seconds: float = 0.0, size: int = 0) -> Said:
    return Said(method, shots, tuple(bits_per_token(each) for each in chances), seconds, size)
