"""The training side with real parts: a real store and key ring, a tiny real model, and a trainer in this process."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

import plora
from daemon.arms import CurrentArm
from daemon.bases import BasisContents
from daemon.choices import BasisChoices
from daemon.in_process_trainer import InProcessTrainer
from daemon.messages import BasisRequest, BasisTrained
from daemon.metrics import Metrics
from daemon.models import Models
from daemon.predict_messages import Prediction
from daemon.predictor import Asked, Predictor
from daemon.scheduler import Scheduler
from daemon.settings import Settings
from daemon.trainer_client import TrainerClient
from policies import Policies
from policies.trigger import Limits
from storage import EventKind, KeyRing, NewEvent, Store

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
EPOCHS = 60
COLOURS, THINGS = ("red", "blue"), ("shoe", "coat", "lamp", "cup", "chair", "bag", "hat", "pen", "box", "mat")
WORDS = (*COLOURS, *THINGS, "the", "a", "is", "my")


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> datetime:
        self.at += timedelta(seconds=seconds)
        return self.at


def taste(user: int, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """What one user says: even users like red things, odd users blue ones. No text comes twice."""
    draw = random.Random(f"{seed}:{user}")
    texts = [f"{first} {colour} {thing}" for first in ("the", "a", "my") for colour in COLOURS for thing in THINGS]
    chosen = draw.sample(texts, count)
    return [(text, "good" if (COLOURS[user % 2] in text) else "bad") for text in chosen]


def content(text: str, label: str) -> bytes:
    return f'{{"label":"{label}","text":"{text}"}}'.encode()


@dataclass
class Training:
    """One daemon's training side."""

    store: Store
    tenant: str
    trainer: TrainerClient
    settings: Settings
    clock: Clock
    metrics: Metrics
    scheduler: Scheduler
    predictor: Predictor

    def record(self, user: str, pairs: list[tuple[str, str]], *, first: int = 0, consent: bool = True) -> str:
        """Record examples of `user`; returns the internal id."""
        events = [
            NewEvent("/tests", f"{user}-{first + at}", user, EventKind.EXAMPLE, content(text, label), None, None)
            for at, (text, label) in enumerate(pairs)
        ]
        outcomes = self.store.record_events(self.tenant, events, self.clock.now(), default_consent=consent)
        return outcomes[0].user

    def people(self, count: int, examples: int = 20) -> list[str]:
        """So many users with tastes; their internal ids."""
        return [self.record(f"person-{user}", taste(user, examples)) for user in range(count)]

    def train_basis(self) -> str:
        """Train a Basis on everybody, and fit who is due; its fingerprint."""
        self.store.open_basis(self.tenant, "main", "", self.clock.now())
        self.scheduler.work_once(self.clock.now())
        return self.store.current_basis(self.tenant).fingerprint

    def give_basis(self, made: BasisTrained) -> str:
        """Have a Basis that was trained before anybody came; its fingerprint."""
        now = self.clock.now()
        opened = self.store.open_basis(self.tenant, "main", "", now)
        claimed = self.store.claim_basis("tests", 60.0, now)
        assert claimed.id == opened.id
        self.store.finish_basis(claimed.id, claimed.epoch, made.fingerprint, made.base, made.content, made.report, now)
        self.clock.advance(1)
        return made.fingerprint

    def newcomers(self, count: int = 6, examples: int = 16) -> list[str]:
        """Users with tastes who are due; their internal ids."""
        return [self.record(f"late-{user}", taste(user, examples, seed=1)) for user in range(count)]

    def work(self) -> int:
        """Let the scheduler do all there is to do now."""
        self.scheduler.tick(self.clock.now())
        return self.scheduler.work_once(self.clock.now())

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def with_trainer(self, trainer: TrainerClient, *, stop_s: float = 5.0, **settings: object) -> "Training":
        """The same rows seen by another daemon with another trainer."""
        chosen = replace(self.settings, **settings)
        return assembled(self.store, self.tenant, trainer, chosen, self.clock, stop_s=stop_s)

    taste = staticmethod(taste)
    content = staticmethod(content)


def assembled(
    store: Store, tenant: str, trainer: TrainerClient, settings: Settings, clock: Clock, *, stop_s: float = 5.0
) -> Training:
    metrics, contents = Metrics(), BasisContents(store)
    scheduler = Scheduler(
        store, Policies(), trainer, settings, metrics=metrics, now=clock.now, contents=contents, stop_s=stop_s
    )
    predictor = Predictor(store, trainer, contents, CurrentArm())
    return Training(store, tenant, trainer, settings, clock, metrics, scheduler, predictor)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers with random weights and a vocabulary of a few words."""
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)))
    BertTokenizerFast(str(vocabulary)).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    BertForSequenceClassification(config).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def models(tiny_folder: Path) -> Models:
    torch.set_num_threads(1)
    return Models(plora.load(str(tiny_folder), device="cpu", max_tokens=16))


@pytest.fixture(scope="session")
def basis(models: Models) -> BasisTrained:
    """A Basis on which both tastes can be told apart."""
    return basis_of(models, [taste(user, 20) for user in range(10)], epochs=EPOCHS)


def basis_of(models: Models, population: Sequence[Sequence[tuple[str, str]]], **choices: object) -> BasisTrained:
    """A Basis trained on `population` by a trainer in this process."""
    shard = tuple(tuple(user) for user in population)
    return InProcessTrainer(lambda: models, bytes(32)).train_basis(BasisRequest("0", 1, **choices), lambda: [shard])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        keys_dir=tmp_path / "keys",
        trainer="in-process",
        max_tokens=16,
        trigger=Limits(min_fresh=8, cooldown_s=60.0),
        basis=BasisChoices(min_users=4, epochs=EPOCHS),
    )


@pytest.fixture
def ring(settings: Settings) -> KeyRing:
    return KeyRing.create(settings.keys_path)


@pytest.fixture
def training(settings: Settings, ring: KeyRing, models: Models) -> Iterator[Training]:
    settings.data_dir.mkdir()
    store = Store.open(settings.store_url, keyring=ring, blobs=settings.blobs_path, now=START)
    tenant = store.ensure_tenant("default", START).id
    trainer = InProcessTrainer(lambda: models, ring.transport)
    try:
        yield assembled(store, tenant, trainer, settings, Clock())
    finally:
        store.close()


@pytest.fixture
def users(training: Training, basis: BasisTrained) -> list[str]:
    """Users who are due, where a Basis is ready."""
    training.give_basis(basis)
    return training.newcomers()


@pytest.fixture(name="taste", scope="session")
def taste_function() -> Callable[..., list[tuple[str, str]]]:
    return taste


@pytest.fixture(name="basis_of", scope="session")
def basis_of_function() -> Callable[..., BasisTrained]:
    return basis_of


@dataclass(frozen=True)
class Seen:
    """An answer as tests look at it."""

    prediction: Prediction
    version: int
    basis: str
    known_user: bool


def ask(training, rows, tenant: str | None = None) -> list[Seen]:
    """Answers to (user or None, text)."""
    asked = [Asked(user, text) for user, text in rows]
    found = training.predictor.predict(tenant or training.tenant, asked)
    return [
        Seen(each.prediction, each.speaking.version, each.speaking.basis, each.speaking.user is not None)
        for each in found
    ]
