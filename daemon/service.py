"""The one place where the daemon's objects meet: settings, keys, store, trainer, scheduler, API."""

from dataclasses import dataclass
from typing import Self

from starlette.types import ASGIApp

from daemon import clock
from daemon.api.app import create_app
from daemon.api.parts import Cause, Parts
from daemon.bases import BasisContents
from daemon.considering import Considering
from daemon.counted_store import CountedStore
from daemon.labels import Labels
from daemon.metrics import Metrics
from daemon.predictor import Predictor
from daemon.scheduler import Scheduler
from daemon.settings import Settings
from daemon.trainer_client import TrainerClient
from daemon.trainers import Training, choose
from daemon.version import release
from policies import Policies
from storage import KeyRing, KeyRingMissing, StorageError, Store

CALLERS = {
    "operator": frozenset({"operator"}),
    "host": frozenset({"events:write", "adapters:read", "predict", "users:admin"}),
}


@dataclass(frozen=True, slots=True)
class Service:
    """A daemon put together. In a `with`, entering starts its threads; leaving stops them and closes the store."""

    app: ASGIApp
    parts: Parts
    keyring: KeyRing
    scheduler: Scheduler
    training: Training

    def __enter__(self) -> Self:
        self.training.start()
        self.parts.considering.start()
        self.scheduler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.parts.considering.stop()
        self.scheduler.stop()
        self.training.stop()
        self.parts.store.close()


def assemble(settings: Settings) -> Service:
    """Every object of a daemon, nothing started yet. Raises the errors of its parts: each says what to do."""
    keyring = open_keyring(settings)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = CountedStore.open(settings.database_url, keyring=keyring, blobs=settings.blobs_path, now=clock.now())
    store.metrics = Metrics()
    try:
        return _assemble_over(store, keyring, settings)
    except BaseException:
        store.close()
        raise


def open_keyring(settings: Settings) -> KeyRing:
    """The key ring, made at the first start. A database without its keys is refused rather than given new ones."""
    try:
        keyring = KeyRing.open(settings.keys_path)
    except KeyRingMissing:
        if (settings.data_dir / "plora.db").exists():
            raise
        keyring = KeyRing.create(settings.keys_path)
    keyring.refuse_beside(settings.data_dir)
    return keyring


def register_callers(store: Store, keyring: KeyRing, tenant_name: str) -> None:
    """The default tenant, and a caller for each token file of the key ring."""
    now = clock.now()
    tenant = store.ensure_tenant(tenant_name, now)
    for name, scopes in CALLERS.items():
        token = keyring.ensure_token(name)
        if store.caller(token, now) is None:
            store.add_caller(tenant.id, name, scopes, token, now)


def known_labels(content: bytes) -> frozenset[str] | None:
    """The labels of a Basis; None when it writes free text."""
    import plora  # noqa: PLC0415 - the command line does without torch

    basis = plora.loads_basis(content)
    return frozenset(basis.labels) if basis.kind is plora.Kind.CLASSIFICATION else None


def find_causes(store: Store, trainer: TrainerClient) -> list[Cause]:
    """What keeps the daemon from being wholly ready."""
    causes = []
    try:
        store.health(clock.now())
    except StorageError as error:
        causes.append(Cause("storage_down", f"the store does not answer: {type(error).__name__}", blocking=True))
    if not trainer.ready():
        causes.append(Cause("trainer_down", "no trainer answers yet: events are kept, adapters wait", blocking=False))
    return causes


def _assemble_over(store: CountedStore, keyring: KeyRing, settings: Settings) -> Service:
    register_callers(store, keyring, settings.tenant)
    metrics = store.metrics
    metrics.observe_build(release(), store.health(clock.now()).schema_revision)

    def follow_trainer(answers: bool) -> None:  # called from `start` on, when `scheduler` below exists
        metrics.observe_restarts(training.child.restarts if training.child else 0)
        if answers:
            scheduler.nudge()

    training = choose(settings, keyring, follow_trainer)
    contents = BasisContents(store)
    scheduler = Scheduler(
        store, Policies(), training.client, settings, metrics=metrics, now=clock.now, contents=contents
    )
    parts = Parts(
        settings=settings,
        store=store,
        metrics=metrics,
        labels=Labels(store, contents, known_labels),
        considering=Considering(scheduler.consider, clock.now),
        predictor=Predictor(store, training.client, contents),
        basis_progress=scheduler.progress,
        trainer_ready=training.client.ready,
        causes=lambda: find_causes(store, training.client),
        now=clock.now,
    )
    return Service(create_app(parts, clock.monotonic), parts, keyring, scheduler, training)
