"""Which Trainer a daemon works with: a supervised Ray on this machine, one behind a URL, or this very process."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.errors import DaemonError
from daemon.http_trainer import HttpTrainer
from daemon.in_process_trainer import InProcessTrainer
from daemon.ray_child import RayChild
from daemon.settings import Settings
from daemon.trainer_client import TrainerClient
from daemon.trainer_order import TrainerOrder
from storage import KeyRing
from storage.transport_keys import Keys

if TYPE_CHECKING:
    from daemon.models import Models


class UnusableModel(DaemonError):
    """The BaseModel cannot be loaded, or has nothing that an adapter can be attached to."""

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(model, problem)
        self.model, self.problem = model, problem

    def __str__(self) -> str:
        return f"the model {self.model!r} cannot be used: {self.problem}; name another by PLORA_MODEL"


@dataclass(frozen=True, slots=True)
class Training:
    """A Trainer as the daemon sees it. `warm` does beforehand what the first request would wait for."""

    client: TrainerClient
    child: RayChild | None
    warm: Callable[[], object]

    def start(self) -> None:
        """Start the child, if there is one."""
        if self.child is not None:
            self.child.start()

    def stop(self) -> None:
        """End the child and the connections."""
        if self.child is not None:
            self.child.stop()
        self.client.close()


def choose(settings: Settings, keyring: KeyRing, on_change: Callable[[bool], None]) -> Training:
    """The Trainer that `settings` ask for, not started. `on_change` hears when the child begins or ceases to answer."""
    order, keys = _order_of(settings), keyring.transport
    if settings.trainer == "in-process":
        load = cache(partial(load_models, order, keys))
        return Training(InProcessTrainer(load, keys), None, load)
    if settings.trainer_url is not None:
        return Training(HttpTrainer(lambda: settings.trainer_url, keys), None, import_library)
    child = RayChild(order, key_file=keyring.transport_path, data_dir=settings.data_dir, on_change=on_change)
    return Training(HttpTrainer(lambda: child.url, keys), child, partial(check_model, order))


def load_models(order: TrainerOrder, keys: Keys | None = None) -> "Models":
    """The model of a Trainer in this process, and its spool under `keys`. Raises UnusableModel."""
    import torch  # noqa: PLC0415 - the command line does without torch

    import plora  # noqa: PLC0415
    from daemon.models import Models  # noqa: PLC0415
    from daemon.spool import Spool  # noqa: PLC0415

    torch.set_num_threads(order.threads)
    kind = plora.Kind(order.kind)
    try:
        base = plora.load(
            order.model, kind=kind, device=order.device, max_tokens=order.max_tokens, revision=order.revision
        )
        plora.find_targets(base.module)
    except plora.PLoRAError as error:
        raise UnusableModel(order.model, str(error)) from error
    return Models(base, spool=Spool(Path(order.spool), keys) if order.spool and keys else None)


def check_model(order: TrainerOrder) -> None:
    """Say now what would keep the child from ever becoming ready. Raises UnusableModel."""
    import plora  # noqa: PLC0415 - the command line does without torch

    try:
        plora.targets_of(order.model, kind=plora.Kind(order.kind), revision=order.revision)
    except plora.PLoRAError as error:
        raise UnusableModel(order.model, str(error)) from error


def import_library() -> None:
    """The daemon reads the labels of a Basis; no event should wait for torch."""
    import plora  # noqa: F401, PLC0415


def _order_of(settings: Settings) -> TrainerOrder:
    return TrainerOrder(
        model=settings.model,
        kind=settings.model_kind,
        revision=settings.model_revision,
        max_tokens=settings.max_tokens,
        device=settings.device,
        threads=settings.threads or max(1, (os.cpu_count() or 1) // settings.replicas),
        replicas=settings.replicas,
        basis_workers=settings.basis.workers,
        spool=str(settings.data_dir.resolve() / "spool"),
        recycle=settings.trainer_recycle,
        otlp=settings.otlp.endpoint,
    )
