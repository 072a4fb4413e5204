"""Leases of claimed work, extended while it is worked on. A lease that was lost says so, and its result is dropped."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from daemon import logs
from storage import BasisRecord, Run, Store

BEATS_PER_LEASE = 3


class Leases:
    """What this daemon has claimed, and a thread that keeps it claimed."""

    def __init__(self, store: Store, lease_s: float, now: Callable[[], datetime]) -> None:
        self._store, self._lease_s, self._now = store, lease_s, now
        self._runs: dict[int, int] = {}
        self._bases: dict[int, int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to extend."""
        self._thread.start()

    def stop(self) -> None:
        """Extend nothing more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    @contextmanager
    def runs(self, runs: Iterable[Run]) -> Iterator[None]:
        """Keep these claims alive inside the `with`."""
        claims = {run.id: run.epoch for run in runs}
        with self._lock:
            self._runs |= claims
        try:
            yield
        finally:
            for run, epoch in claims.items():
                self._drop(self._runs, run, epoch)

    @contextmanager
    def basis(self, basis: BasisRecord) -> Iterator[None]:
        """Keep this claim alive inside the `with`."""
        with self._lock:
            self._bases[basis.id] = basis.epoch
        try:
            yield
        finally:
            self._drop(self._bases, basis.id, basis.epoch)

    def holds(self, run: Run) -> bool:
        """Whether the claim of `run` was still ours when last looked at."""
        with self._lock:
            return self._runs.get(run.id) == run.epoch

    def held(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The (run, epoch) and (basis, epoch) pairs at hand."""
        with self._lock:
            return list(self._runs.items()), list(self._bases.items())

    def beat(self) -> None:
        """Extend everything once, and let go of what was lost."""
        now = self._now()
        runs, bases = self.held()
        kept = self._store.extend_leases(runs, self._lease_s, now) if runs else set()
        for run, epoch in runs:
            if run not in kept:
                self._drop(self._runs, run, epoch)
        for basis, epoch in bases:
            if not self._store.extend_basis(basis, epoch, self._lease_s, now):
                self._drop(self._bases, basis, epoch)

    def _drop(self, claims: dict[int, int], claimed: int, epoch: int) -> None:
        with self._lock:
            if claims.get(claimed) == epoch:
                del claims[claimed]

    def _beat_on(self) -> None:
        while not self._stopping.wait(self._lease_s / BEATS_PER_LEASE):
            try:
                self.beat()
            except Exception as error:  # noqa: BLE001 - one failed beat is not yet a lost lease
                logs.write_error("extend_leases", error)
