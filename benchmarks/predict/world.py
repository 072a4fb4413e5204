"""A daemon with its Ray on PostgreSQL, and users whose every answer is known beforehand.

Nobody is trained: each version is a random vector, so that no two of them answer alike, and what each must say to each
text is computed here, alone, by the library. The measuring process opens the same database as a second daemon would.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

import plora
from benchmarks.store.places import database_url, server
from daemon.demo.process import Running, daemon
from storage import AdapterVersion, EventKind, FinishedRun, KeyRing, NewEvent, Store

LABELS = ("great", "good", "bad", "awful")
TEXTS = (
    "the battery lasts two days",
    "it came broken and nobody answered",
    "as described",
    "my children like it more than i do",
)
AT = datetime(2031, 1, 1, tzinfo=UTC)
AT_ONCE = 100
SPREAD = 6.0
"""Standard deviation of the users' vectors: far apart, so that a wrong adapter shows in every answer."""

Chances = tuple[float, ...]


@dataclass(slots=True)
class Person:
    """A User of the benchmark: the host's id, the daemon's, and what each version answers to each of TEXTS."""

    id: str
    internal: str
    answers: dict[int, tuple[Chances, ...]] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class World:
    """What runs, and who is in it. Version 0 of everybody is the generic model."""

    running: Running
    store: Store
    tenant: str
    base: plora.BaseModel
    basis: plora.Basis
    people: list[Person]
    generator: torch.Generator

    def promote(self, whom: Sequence[Person]) -> None:
        """One new version for each, which serves when this returns: as a run that another daemon has finished."""
        adapters = [self._vector() for _ in whom]
        answers = _answers(self.base, self.basis, adapters)
        by_internal = {person.internal: at for at, person in enumerate(whom)}
        self.store.open_runs([(person.internal, self.basis.fingerprint, "due") for person in whom], AT)
        claimed = self.store.claim_runs("benchmark", len(whom), 60, AT)
        done = [(run.id, run.epoch, self._made(adapters[by_internal[run.user]])) for run in claimed]
        for found in self.store.finish_runs(done, AT):
            if not isinstance(found, AdapterVersion):
                raise found
            at = by_internal[found.user]
            whom[at].answers[found.version] = answers[at]

    def _vector(self) -> plora.Adapter:
        return plora.Adapter.of(self.basis, SPREAD * torch.randn(self.basis.spec.dimensions, generator=self.generator))

    def _made(self, adapter: plora.Adapter) -> FinishedRun:
        return FinishedRun(
            adapter=plora.dumps(adapter),
            promoted=True,
            code="beats_generic",
            reason="made for a benchmark",
            scores="{}",
            base=self.basis.base,
            basis=self.basis.fingerprint,
            watermark_seq=1,
        )


@contextmanager
def world(folder: Path, people: int, choices: Mapping[str, str]) -> Iterator[World]:
    """A daemon over a database of its own, and `people` users with one version each."""
    base = plora.load(device="cpu", max_tokens=64)
    basis = made_basis(base)
    with server(folder) as admin:
        url = database_url(admin)
        own = {"PLORA_DATABASE_URL": url, "PLORA_MAX_TOKENS": "64", "PLORA_HEARTBEAT_EVERY_S": "0", **choices}
        with daemon(folder / "plora", own, lambda _: None) as running:
            store = Store.open(
                url, keyring=KeyRing.open(folder / "plora" / "keys"), blobs=folder / "plora" / "data" / "blobs", now=AT
            )
            try:
                store.turn_switch("training", "benchmark", AT, off=True)
                made = World(running, store, _tenant(store, basis), base, basis, [], _seeded(1))
                made.people = list(_settle(made, people))
                for start in range(0, people, AT_ONCE):
                    made.promote(made.people[start : start + AT_ONCE])
                yield made
            finally:
                store.close()


def made_basis(base: plora.BaseModel) -> plora.Basis:
    """A Basis of random matrices, as large as one that a population trained."""
    spec = plora.BasisSpec(
        base=base.fingerprint,
        kind=base.kind,
        labels=LABELS,
        targets=plora.find_targets(base.module),
        rank=8,
        alpha=16.0,
        dimensions=16,
    )
    fresh, generator = plora.fresh_basis(base.module, spec, seed=0), _seeded(0)
    drawn = {
        name: 0.02 * torch.randn(value.shape, generator=generator) if name.startswith("B.") else value
        for name, value in fresh.tensors.items()
    }
    return plora.Basis(spec, drawn)


def _tenant(store: Store, basis: plora.Basis) -> str:
    tenant = store.ensure_tenant("default", AT).id
    opened = store.open_basis(tenant, "benchmark", "", AT)
    claimed = store.claim_basis("benchmark", 60, AT)
    if claimed is None or claimed.id != opened.id:
        raise RuntimeError("somebody else took the basis")
    store.finish_basis(claimed.id, claimed.epoch, basis.fingerprint, basis.base, plora.dumps(basis), "{}", AT)
    return tenant


def _settle(made: World, people: int) -> Iterator[Person]:
    generic = _answers(made.base, made.basis, [None])[0]
    for start in range(0, people, AT_ONCE):
        names = [f"reader-{number}" for number in range(start, min(people, start + AT_ONCE))]
        events = [NewEvent("benchmark", name, name, EventKind.EXAMPLE, b"{}", AT) for name in names]
        made.store.record_events(made.tenant, events, AT, default_consent=True)
        for name in names:
            found = made.store.user(made.tenant, name)
            if found is None:
                raise LookupError("a user who was just recorded")
            yield Person(name, found.id, {0: generic})


def _answers(
    base: plora.BaseModel, basis: plora.Basis, adapters: Sequence[plora.Adapter | None]
) -> list[tuple[Chances, ...]]:
    rows = [(text, adapter) for adapter in adapters for text in TEXTS]
    found = plora.predict(base, basis, [text for text, _ in rows], [adapter for _, adapter in rows])
    chances = [tuple(each.probabilities[label] for label in LABELS) for each in found]
    return [tuple(chances[at : at + len(TEXTS)]) for at in range(0, len(chances), len(TEXTS))]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
