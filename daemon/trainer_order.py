"""What a Trainer is told when it starts. Nothing secret: these values are Ray arguments."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from daemon.errors import DaemonError

KEY_FILE = "PLORA_TRANSPORT_KEY_FILE"
"""The environment variable with transport.key's path: replicas read it and newer keys beside it, Ray never has one."""

TRAINER_NICENESS = 15  # answering comes before training


class WrongOrder(DaemonError):
    """A Trainer was told something that no Trainer can be."""

    def __init__(self, name: str, needed: str) -> None:
        super().__init__(name, needed)
        self.name, self.needed = name, needed

    def __str__(self) -> str:
        return f"{self.name!r} of the trainer's arguments must be {self.needed}"


@dataclass(frozen=True, slots=True)
class TrainerOrder:
    """The BaseModel to hold, and by how many replicas of each deployment.

    `basis_workers` processes train a Basis together. `spool` is a folder for the sealed population in training, which
    all replicas and workers see; without one a replica keeps it in its memory, and trains alone. `cpus` and `gpu_share`
    are what Ray sets aside for a replica or worker: a share of one GPU, or none. After `recycle` cohorts a replica
    makes way for a new process; 0: never. With `most_replicas` above `replicas`, as many live as requests keep busy.
    Spans go to the collector at `otlp`; empty: nowhere.
    """

    model: str = "minilm"
    kind: Literal["classification", "causal-lm"] = "classification"
    revision: str | None = None
    max_tokens: int = 128
    device: str = "auto"
    threads: int = 1
    replicas: int = 1
    most_replicas: int = 0
    predictors: int = 1
    basis_workers: int = 1
    spool: str = ""
    cpus: float = 1.0
    gpu_share: float = 0.0
    recycle: int = 500
    otlp: str = ""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "threads", "replicas", "predictors", "basis_workers"):
            _need(getattr(self, name) >= 1, name, "1 or more")
        _need(self.recycle >= 0, "recycle", "0 or more")
        _need(self.cpus > 0, "cpus", "above 0")
        _need(0 <= self.gpu_share <= 1, "gpu_share", "from 0 to 1")
        most = self.most_replicas
        _need(most == 0 or most >= self.replicas, "most_replicas", f"0, or {self.replicas} or more")


@dataclass(frozen=True, slots=True)
class ChildOrder:
    """Where the child's Ray listens and lives. `directory` is short: Unix socket names end at 107 bytes."""

    trainer: TrainerOrder
    host: str
    port: int
    directory: str
    object_store_bytes: int = 120 << 20


def order_of(args: Mapping[str, object]) -> TrainerOrder:
    """The order that the `args` of a Serve config file give. On a cluster a GPU is asked for. Raises WrongOrder."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - the daemon writes orders and reads none

    known = [each.name for each in fields(TrainerOrder)]
    for name in args:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise WrongOrder(name, f"left out: there is none of that name{f', but {near[0]}' if near else ''}")
    try:
        order = TypeAdapter(TrainerOrder).validate_python(dict(args))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise WrongOrder(str(first["loc"][0]), first["msg"].removeprefix("Input should be ")) from None
    _need(not order.device.startswith("cuda") or order.gpu_share > 0, "gpu_share", f"above 0 on {order.device}")
    return order


def _need(holds: bool, name: str, needed: str) -> None:
    if not holds:
        raise WrongOrder(name, needed)
