"""Leases of claimed work, extended while it is worked on. A lease that was lost says so, and its result is dropped.

Theory. How long a lease has left is counted here by the monotonic clock, from before the store was asked for it: what
the wall clock does, here or at the database, makes nobody believe in a lease that may be over. Work whose lease could
not be extended until a margin before its end is given up, though nobody may have taken it: when the store answers
again, such a claim is given back, and costs the run nothing.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

from daemon import clock, logs
from storage import BasisRecord, Run, Spent, StaleEpoch, Store

BEATS_PER_LEASE = 3
MARGINS_PER_LEASE = 6
"""Of 60 s the last 10 are not relied upon."""

LEASE_LOST = "lease_lost"


class Leases:
    """What this daemon has claimed, and a thread that keeps it claimed."""

    def __init__(
        self,
        store: Store,
        lease_s: float,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._store, self._lease_s, self._now, self._monotonic = store, lease_s, now, monotonic
        self._runs: dict[tuple[int, int], float] = {}  # each claim, and until when it is surely ours
        self._bases: dict[tuple[int, int], float] = {}
        self._begun: dict[tuple[int, int], float] = {}  # when each run that is worked on was claimed
        self._owed: set[tuple[int, int]] = set()
        self._looked = (now(), monotonic())
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

    def claim_runs(self, owner: str, limit: int, now: datetime) -> tuple[list[Run], float]:
        """Claim runs; with the monotonic time from which their leases count."""
        self._give_back(now)
        if self._has_jumped(now):
            self.beat()  # or the wall clock would make our own claims look expired to us
        since = self._monotonic()
        return self._store.claim_runs(owner, limit, self._lease_s, now), since

    @contextmanager
    def runs(self, runs: Iterable[Run], since: float) -> Iterator[None]:
        """Keep these claims, made at the monotonic time `since`, alive inside the `with`."""
        claims = [(run.id, run.epoch) for run in runs]
        self._keep(self._runs, claims, since)
        with self._lock:
            self._begun.update(dict.fromkeys(claims, since))
        try:
            yield
        finally:
            for claim in claims:
                self._drop(self._runs, claim)
                self._drop(self._begun, claim)

    @contextmanager
    def basis(self, basis: BasisRecord) -> Iterator[None]:
        """Keep this claim, which was made just now, alive inside the `with`."""
        claim = (basis.id, basis.epoch)
        self._keep(self._bases, [claim], self._monotonic())
        try:
            yield
        finally:
            self._drop(self._bases, claim)

    def age_s(self, run: Run) -> float | None:
        """Seconds since the run was claimed; None if it is not worked on here."""
        with self._lock:
            since = self._begun.get((run.id, run.epoch))
        return None if since is None else self._monotonic() - since

    def holds(self, run: Run) -> bool:
        """Whether the claim of `run` is surely still ours."""
        margin_s = self._lease_s / MARGINS_PER_LEASE
        with self._lock:
            until = self._runs.get((run.id, run.epoch))
        return until is not None and self._monotonic() < until - margin_s

    def release(self, code: str) -> int:
        """Queue again, unspent, whatever is still claimed; a late result of it is then refused. Returns how much."""
        runs, bases = self._held()
        with self._lock:
            runs += self._owed
        now = self._now()
        released = self._store.return_runs(runs, code, now) if runs else 0
        for basis, epoch in bases:
            with suppress(StaleEpoch):
                self._store.retry_basis(basis, epoch, now, code, now, spent=Spent.NOTHING)
                released += 1
        return released

    def owe(self, run: Run) -> None:
        """Give this claim back before the next claim is made; harmless where it is not ours any more."""
        with self._lock:
            self._owed.add((run.id, run.epoch))

    def beat(self) -> None:
        """Extend everything once, and let go of what was lost."""
        since, now = self._monotonic(), self._now()
        runs, bases = self._held()
        kept = self._store.extend_leases(runs, self._lease_s, now) if runs else set()
        for claim in runs:
            self._settle(self._runs, claim, since, kept=claim[0] in kept)
        for basis, epoch in bases:
            self._settle(
                self._bases, (basis, epoch), since, kept=self._store.extend_basis(basis, epoch, self._lease_s, now)
            )
        self._looked = (now, since)

    def _held(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        with self._lock:
            return list(self._runs), list(self._bases)

    def _has_jumped(self, now: datetime) -> bool:
        """Whether the wall clock went on by more than the monotonic one since we last looked."""
        (at, since), self._looked = self._looked, (now, self._monotonic())
        return (now - at).total_seconds() - (self._looked[1] - since) > self._lease_s / MARGINS_PER_LEASE

    def _give_back(self, now: datetime) -> None:
        with self._lock:
            owed = list(self._owed)
        if owed:
            self._store.return_runs(owed, LEASE_LOST, now)
            with self._lock:
                self._owed.difference_update(owed)

    def _keep(self, claims: dict[tuple[int, int], float], made: Sequence[tuple[int, int]], since: float) -> None:
        with self._lock:
            claims.update(dict.fromkeys(made, since + self._lease_s))

    def _settle(
        self, claims: dict[tuple[int, int], float], claim: tuple[int, int], since: float, *, kept: bool
    ) -> None:
        """Unless it was dropped meanwhile."""
        with self._lock:
            if kept and claim in claims:
                claims[claim] = since + self._lease_s
            elif not kept:
                claims.pop(claim, None)

    def _drop(self, claims: dict[tuple[int, int], float], claim: tuple[int, int]) -> None:
        with self._lock:
            claims.pop(claim, None)

    def _beat_on(self) -> None:
        while not self._stopping.wait(self._lease_s / BEATS_PER_LEASE):
            try:
                self.beat()
            except Exception as error:  # noqa: BLE001 - one failed beat is not yet a lost lease
                logs.write_error("extend_leases", error)
