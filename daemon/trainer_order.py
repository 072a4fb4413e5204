"""What a Trainer is told when it starts. Nothing secret: these values are Ray arguments."""

from dataclasses import dataclass
from typing import Literal

KEY_FILE = "PLORA_TRANSPORT_KEY_FILE"
"""The environment variable with transport.key's path: replicas read it and newer keys beside it, Ray never has one."""

TRAINER_NICENESS = 15  # answering comes before training


@dataclass(frozen=True, slots=True)
class TrainerOrder:
    """The BaseModel to hold, and by how many replicas of each deployment.

    `basis_workers` processes train a Basis together. `spool` is a folder for the sealed population in training, which
    all replicas and workers see; without one a replica keeps it in its memory, and trains alone. `gpu_share` is what a
    replica or worker takes of a GPU. After `recycle` cohorts a replica makes way for a new process; 0: never.
    """

    model: str = "minilm"
    kind: Literal["classification", "causal-lm"] = "classification"
    revision: str | None = None
    max_tokens: int = 128
    device: str = "auto"
    threads: int = 1
    replicas: int = 1
    predictors: int = 1
    basis_workers: int = 1
    spool: str = ""
    gpu_share: float = 0.0
    recycle: int = 500


@dataclass(frozen=True, slots=True)
class ChildOrder:
    """Where the child's Ray listens and lives. `directory` is short: Unix socket names end at 107 bytes."""

    trainer: TrainerOrder
    host: str
    port: int
    directory: str
    object_store_bytes: int = 120 << 20
