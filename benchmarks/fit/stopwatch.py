"""Time and memory of one piece of work, and pieces of work taken in turns so that a slow minute hits all alike."""

import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Clock(Enum):
    """Processor time is blind to who else uses the machine, and to a GPU's work; it is fair with one thread only."""

    CPU = "cpu"
    WALL = "wall"


LEAST_S = 0.3
"""Shorter work is repeated until this much time has passed, and the mean is taken."""


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """What came out, the seconds it took on the wall and on the processor, and the memory it needed at most."""

    outcome: T
    wall_s: float
    cpu_s: float
    peak_mb: float | None

    def seconds(self, clock: Clock) -> float:
        return self.cpu_s if clock is Clock.CPU else self.wall_s


@dataclass(frozen=True, slots=True)
class Turn(Generic[T]):
    """A piece of work that is done once in each round."""

    name: str
    work: Callable[[int], T]
    repeat: bool = True


def measure(work: Callable[[], T], *, least_s: float = LEAST_S) -> Taken[T]:
    """Do `work`, again until `least_s` have passed; the memory is the first time's."""
    before = _fresh_peak()
    synchronise()
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = work()
    synchronise()
    peak = _peak_mb()
    times = 1
    while time.perf_counter() - wall < least_s:
        outcome = work()
        synchronise()
        times += 1
    needed = None if peak is None or before is None else max(0.0, peak - before)
    return Taken(outcome, (time.perf_counter() - wall) / times, (time.process_time() - cpu) / times, needed)


def take_turns(turns: Sequence[Turn[T]], rounds: int) -> dict[str, list[Taken[T]]]:
    """Every turn once in each round, in alternating order: name -> one measurement for each round."""
    taken: dict[str, list[Taken[T]]] = {turn.name: [] for turn in turns}
    for number in range(rounds):
        for turn in turns if number % 2 == 0 else list(reversed(turns)):
            least = LEAST_S if turn.repeat else 0.0
            taken[turn.name].append(measure(partial(turn.work, number), least_s=least))
    return taken


@contextmanager
def every_core() -> Iterator[None]:
    """All cores inside the `with`, for what is not timed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def resident_mb(field: str = "VmRSS") -> float | None:
    """This process's resident memory now, or "VmHWM": at most so far. None where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return None


def _fresh_peak() -> float | None:
    """Forget the highest memory so far; what is resident now."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        with os.fdopen(os.open("/proc/self/clear_refs", os.O_WRONLY), "w") as file:
            file.write("5")
    except OSError:
        return None
    return resident_mb()


def _peak_mb() -> float | None:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_mb("VmHWM")
