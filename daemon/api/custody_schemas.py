"""What the API says of erasures, keys and the audit log."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field


class StageView(BaseModel):
    """One step of forgetting; `at` is null while it is still to be done, by `due` at the latest."""

    name: str
    at: datetime | None
    due: datetime | None


class ReceiptView(BaseModel):
    """What was destroyed. The counts are known when the user is forgotten, and 0 later."""

    user: str
    tenant: str
    complete: Annotated[bool, Field(description="nothing is left in the database itself")]
    final: Annotated[bool, Field(description="older copies and backups are unreadable too")]
    stages: list[StageView]
    runs: int
    events: int
    versions: int
    signature: Annotated[str, Field(description="Ed25519 over user, tenant and stages, in hex")]


class ErasureList(BaseModel):
    """The tenant's erasures, newest first."""

    erasures: list[ReceiptView]


class RotationView(BaseModel):
    """A new primary key epoch, and what became of the old ones."""

    epoch: int
    rewrapped: int
    destroyed: list[int]
    pending: list[int]


class EpochView(BaseModel):
    """A key epoch. `destroyed_at`: when nobody can have it any more, or, while pending, since when it is to go."""

    epoch: int
    state: str
    data_keys: int
    created_at: datetime
    destroyed_at: datetime | None


class KeysView(BaseModel):
    """The key epochs and whether their provider answers."""

    provider: str
    answers: bool
    failures: int
    epochs: list[EpochView]
    transport: Annotated[list[int], Field(description="numbers of the transport keys; the newest seals")]


class AuditView(BaseModel):
    """Whether the audit log holds; `broken_at` is the first entry that does not fit, `problem` what is wrong."""

    ok: bool
    entries: int
    broken_at: int | None
    problem: Annotated[str | None, Field(description="chain, head, checkpoint, truncated, rewritten or exports")] = None
    checkpoints: Annotated[int, Field(description="signed ones in the database")] = 0
    exported: Annotated[int, Field(description="those found at the place for exports")] = 0
    restored: Annotated[int, Field(description="backups that were put back")] = 0
