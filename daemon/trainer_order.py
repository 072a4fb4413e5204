"""What a Trainer is told when it starts. Nothing secret: these values are Ray arguments."""

from dataclasses import dataclass
from typing import Literal

KEY_FILE = "PLORA_TRANSPORT_KEY_FILE"
"""The environment variable with the transport key's path: replicas read the file, so that Ray never has the key."""


@dataclass(frozen=True, slots=True)
class TrainerOrder:
    """The BaseModel to hold, and by how many replicas of each deployment."""

    model: str = "minilm"
    kind: Literal["classification", "causal-lm"] = "classification"
    revision: str | None = None
    max_tokens: int = 128
    device: str = "auto"
    threads: int = 1
    replicas: int = 1
    predictors: int = 1


@dataclass(frozen=True, slots=True)
class ChildOrder:
    """Where the child's Ray listens and lives. `directory` is short: Unix socket names end at 107 bytes."""

    trainer: TrainerOrder
    host: str
    port: int
    directory: str
    object_store_bytes: int = 120 << 20
