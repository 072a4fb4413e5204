"""The one place where the daemon's objects meet: settings, keys, store, trainer, scheduler, API."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Self

from starlette.types import ASGIApp

from daemon import clock
from daemon.answering import Answering
from daemon.api.app import create_app
from daemon.api.oidc import verifier
from daemon.api.parts import Cause, Parts
from daemon.bases import BasisContents
from daemon.considering import Considering
from daemon.counted_store import CountedStore
from daemon.custody import exports_of
from daemon.denials import Denials
from daemon.gated_trainer import GatedTrainer
from daemon.gatekeeper import Gatekeeper
from daemon.heartbeat import Heartbeat
from daemon.keyring import make_ring, open_ring
from daemon.labels import Labels
from daemon.limits import Admission
from daemon.metrics import Metrics
from daemon.predictor import Predictor
from daemon.rollouts import Rollouts
from daemon.scheduler import Scheduler
from daemon.settings import Settings
from daemon.standing import Standing
from daemon.steering import Steering
from daemon.switches import Switches
from daemon.trainer_client import TrainerClient
from daemon.trainers import Training, choose
from daemon.version import release
from policies import Policies
from storage import Blobs, KeyRing, KeyRingMissing, StorageError, Store, open_blobs

CALLERS = {
    "operator": frozenset({"operator", "admin:tenants"}),
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
    gatekeeper: Gatekeeper
    heartbeat: Heartbeat

    def __enter__(self) -> Self:
        self.training.start()
        self.parts.considering.start()
        self.scheduler.start()
        self.heartbeat.start()
        self.parts.rollouts.start()
        return self

    def count_spans(self, outcome: str, count: int) -> None:
        """For telemetry: what became of so many spans."""
        self.parts.metrics.telemetry_spans.labels(outcome).inc(count)

    def __exit__(self, *_: object) -> None:
        """The claims go back before the Trainer ends, or its end would count as a crash of their runs."""
        with ExitStack() as last:
            last.callback(self.parts.store.close)
            last.callback(self.gatekeeper.close)
            last.callback(self.training.stop)
            last.callback(self.scheduler.stop)
            last.callback(self.heartbeat.stop)
            last.callback(self.parts.rollouts.stop)
            last.callback(self.parts.considering.stop)
            last.callback(self.parts.denials.flush)


def assemble(settings: Settings) -> Service:
    """Every object of a daemon, nothing started yet. Raises the errors of its parts: each says what to do."""
    keyring = open_keyring(settings)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = CountedStore.open(
        settings.store_url,
        keyring=keyring,
        blobs=place_blobs(settings),
        now=clock.now(),
        exports=exports_of(settings),
        erase_after=timedelta(days=settings.erase_after_days),
        migrate=settings.database_migrate == "auto",
    )
    store.metrics = Metrics()
    try:
        return _assemble_over(store, keyring, settings)
    except BaseException:
        store.close()
        raise


def place_blobs(settings: Settings) -> Path | Blobs:
    """Where sealed Bases are to lie."""
    if not settings.blobs_url:
        return settings.blobs_path
    if "://" not in settings.blobs_url:
        return Path(settings.blobs_url).expanduser()
    return open_blobs(settings.blobs_url, endpoint=settings.s3_endpoint, region=settings.s3_region)


def open_keyring(settings: Settings) -> KeyRing:
    """The key ring, made at the first start. A database without its keys is refused rather than given new ones."""
    try:
        keyring = open_ring(settings)
    except KeyRingMissing:
        if not settings.database_url and (settings.data_dir / "plora.db").exists():
            raise
        keyring = make_ring(settings)
    keyring.refuse_beside(settings.data_dir)
    return keyring


def register_callers(store: Store, keyring: KeyRing, tenant_name: str) -> None:
    """The default tenant, and a caller for each token file of the key ring."""
    now = clock.now()
    tenant = store.ensure_tenant(tenant_name, now)
    for name, scopes in CALLERS.items():
        token = keyring.ensure_token(name)
        store.add_caller(tenant.id, name, scopes, token, now)  # one that was revoked stays so


def steer(scheduler: Scheduler, switches: Switches) -> Steering:
    """The levers of this daemon; what was paused before it started is."""
    switches.look()
    return Steering(
        owner=scheduler.owner,
        switches=switches,
        drain=scheduler.drain,
        draining=lambda: scheduler.draining,
        working=scheduler.working,
        decide=scheduler.decide,
        nudge=scheduler.nudge,
    )


def known_labels(content: bytes) -> frozenset[str] | None:
    """The labels of a Basis; None when it writes free text."""
    import plora  # noqa: PLC0415 - the command line does without torch

    basis = plora.loads_basis(content)
    return frozenset(basis.labels) if basis.kind is plora.Kind.CLASSIFICATION else None


def find_causes(store: Store, trainer: TrainerClient, stopping: Event, steering: Steering) -> list[Cause]:
    """What keeps the daemon from being wholly ready."""
    causes = []
    if stopping.is_set():
        causes.append(Cause("stopping", "this daemon is being stopped", blocking=True))
    if steering.draining():
        causes.append(Cause("draining", "an operator is draining this daemon: stop it", blocking=True))
    if paused := ", ".join(each.name for each in steering.switches.off()):
        causes.append(Cause("paused", f"an operator has paused {paused}", blocking=False))
    try:
        store.tenants()
    except StorageError as error:
        causes.append(Cause("storage_down", f"the store does not answer: {type(error).__name__}", blocking=True))
    if waiting := store.unexported():
        sentence = f"{waiting} erasures could not be exported yet: see PLORA_EXPORT_URL"
        causes.append(Cause("exports_away", sentence, blocking=False))
    if (keys := store.keys_problem()) is not None:
        causes.append(Cause("keys_away", f"the key provider was not reached: {type(keys).__name__}", blocking=False))
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
    contents, stopping = BasisContents(store), Event()
    gatekeeper = Gatekeeper(settings.gate)
    gated = GatedTrainer(training.client, gatekeeper, store, metrics=metrics, now=clock.now)
    standing = Standing(store, metrics, settings.data_dir, clock.now, clock.monotonic)
    metrics.trainer_replicas.set(settings.replicas)
    switches = Switches(store, standing.paused)
    scheduler = Scheduler(
        *(store, Policies(), gated, settings), metrics=metrics, now=clock.now, contents=contents, switches=switches
    )
    steering = steer(scheduler, switches)
    labels = Labels(store, contents, known_labels)
    considering = Considering(scheduler.consider, clock.now)
    heartbeat = Heartbeat(
        *(store, scheduler.beats, settings.heartbeat.every_s, settings.tenant),
        labels=labels.of,
        consider=considering.add,
        now=clock.now,
    )
    rollouts = Rollouts(
        *(store, Policies(), metrics),
        now=clock.now,
        monotonic=clock.monotonic,
        moves_days=settings.retention.moves_days,
    )
    predictor = Predictor(store, training.client, contents, rollouts)
    parts = Parts(
        settings=settings,
        store=store,
        metrics=metrics,
        standing=standing,
        labels=labels,
        considering=considering,
        predictor=predictor,
        rollouts=rollouts,
        answering=Answering(store, predictor, Policies(), settings.hold, now=clock.now),
        basis_progress=scheduler.progress,
        trainer_ready=training.client.ready,
        causes=lambda: find_causes(store, training.client, stopping, steering),
        now=clock.now,
        admission=Admission(settings.rate, clock.now, on_refusal=lambda kind: metrics.rate_limited.labels(kind).inc()),
        denials=Denials(store, clock.now),
        steering=steering,
        verifier=verifier(
            settings.oidc,
            clock.monotonic,
            tenant_of=store.tenant,
            default_tenant=settings.tenant,
            secret=keyring.audit_key(),
        ),
        stopping=stopping,
    )
    return Service(create_app(parts, clock.monotonic), parts, keyring, scheduler, training, gatekeeper, heartbeat)
