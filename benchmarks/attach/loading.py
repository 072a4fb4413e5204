"""From a user's bytes to their row in the next batch, beside PEFT's three ways to the same."""

import gc
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, ParamSpec

import plora
from benchmarks.attach.subjects import Subject, peft_model
from plora import Adapter, LowRankAdapter, Residents
from storage.sealing import Context, Kind, seal_body, unseal_body

if TYPE_CHECKING:
    from peft import PeftModel

P = ParamSpec("P")

CROWD = 64
"""LoRAs that PEFT is given, one after another."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long it takes until a user can be in a batch, in microseconds, and how many times that was looked at."""

    subject: str
    way: str
    times: int
    p50_us: float
    p99_us: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """The same user put where nobody is held and where `held` are, in turns: medians, and of their quotients."""

    subject: str
    held: int
    first_us: float
    last_us: float
    put_ratio: float
    batch_ratio: float


class Sealed:
    """Users' bytes as the store keeps them, each sealed for its own row."""

    def __init__(self, users: Sequence[Adapter | LowRankAdapter]) -> None:
        self._key, self._rows = secrets.token_bytes(32), list[tuple[Context, bytes]]()
        for user in users:
            ids = [secrets.token_bytes(16) for _ in range(4)]
            context = Context(Kind.ADAPTER, ids[0], ids[1], ids[2], 1, ids[3], 1, 1, 1)
            self._rows.append((context, seal_body(self._key, context, plora.dumps(user))))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size_bytes(self) -> int:
        return len(self._rows[0][1])

    def put(self, held: Residents[int], user: int, key: int) -> None:
        """Unseal, read with every check, and put."""
        context, body = self._rows[user]
        data = unseal_body(self._key, context, body)
        held.put(key, plora.loads_low_rank(data) if plora.is_low_rank(data) else plora.loads_adapter(data))


def ours(subject: Subject, sealed: Sealed, way: str, times: int) -> Wait:
    """Each put is of another user, and the row that the next batch gets is looked at outside the clock."""
    held = Residents[int](subject.basis, min(len(sealed), times))
    for user in range(len(sealed)):  # pages that were never touched are not what is measured
        sealed.put(held, user, user)
    seconds = []
    for at in range(times):
        user = at % len(sealed)
        seconds.append(clocked(sealed.put, held, user, user))
        if not held.rows([user]).vectors.shape[0]:
            raise RuntimeError("the row is not in the next batch")
    return _wait(subject, way, seconds, sealed.size_bytes)


def peft(subject: Subject, users: Sequence[LowRankAdapter], folder: Path) -> "tuple[list[Wait], PeftModel]":
    """load_adapter of the first and of the last of many, set_adapter and hotswap among them; the model with all."""
    from peft.utils.hotswap import hotswap_adapter  # noqa: PLC0415

    model, places = peft_model(subject, users, folder)
    size = sum(file.stat().st_size for file in places[0].iterdir() if file.suffix == ".safetensors")
    seconds = [clocked(model.load_adapter, str(places[at]), str(at)) for at in range(len(users))]
    edge = max(1, len(users) // 8)
    chosen = [clocked(model.set_adapter, str(at)) for at in range(len(users))]
    swapped = [clocked(hotswap_adapter, model, str(place), "default") for place in places]
    told = [
        (f"PEFT load_adapter, the first {edge}", seconds[:edge]),
        (f"PEFT load_adapter, the last {edge} of {len(users)}", seconds[-edge:]),
        ("PEFT load_adapter", seconds),
        (f"PEFT set_adapter, {len(users)} loaded", chosen),
        (f"PEFT hotswap, {len(users)} loaded", swapped),
    ]
    return [_wait(subject, way, found, size) for way, found in told], model


def growth(subject: Subject, sealed: Sealed, held: int, times: int) -> Growth:
    """One user more where `held` are, and where none is; and a batch of 64 from each table."""
    few, many = Residents[int](subject.basis, held + 1), Residents[int](subject.basis, held + 1)
    for key in range(held):
        sealed.put(many, key % len(sealed), key)
    first, last, few_batch, many_batch = (list[float]() for _ in range(4))
    for at in range(CROWD):
        sealed.put(few, at % len(sealed), at)
    spread = [at * (held // CROWD) for at in range(CROWD)]
    for at in range(times):
        tables = [(few, first, few_batch, list(range(CROWD))), (many, last, many_batch, spread)]
        for table, waits, batches, keys in tables if at % 2 else tables[::-1]:
            waits.append(clocked(sealed.put, table, at % len(sealed), -1))
            batches.append(clocked(table.rows, keys))
            table.drop(-1)
    return Growth(
        subject.name,
        held,
        round(1e6 * median(first), 2),
        round(1e6 * median(last), 2),
        round(median(last) / median(first), 3),
        round(median(many_batch) / median(few_batch), 3),
    )


def clocked(work: Callable[P, object], *given: P.args, **named: P.kwargs) -> float:
    """The seconds that one call takes."""
    before = time.perf_counter()
    work(*given, **named)
    return time.perf_counter() - before


def _wait(subject: Subject, way: str, seconds: Sequence[float], size_bytes: int) -> Wait:
    ordered = sorted(seconds)
    p99 = ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]
    gc.collect()
    return Wait(subject.name, way, len(ordered), round(1e6 * median(ordered), 2), round(1e6 * p99, 2), size_bytes)
