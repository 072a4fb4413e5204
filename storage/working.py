"""The half of the Store that hands out work: runs and Bases, queued, claimed under a lease, settled under an epoch."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from storage import bases, deadletters, finishing, leases, runs
from storage.bases import FinishedBasis
from storage.erasing import Erasing
from storage.finishing import Finished
from storage.leases import BASES, RUNS
from storage.records import AdapterVersion, BasisRecord, FinishedRun, Run
from storage.states import Spent


class Working(Erasing):
    """Every write after a claim names (run, epoch): whoever lost the claim writes nothing."""

    def open_run(self, user: str, basis: str, reason: str, now: datetime) -> Run | None:
        """Queue a run; None when the user has one open, or is unknown or forgotten."""
        with self._write(now) as tx:
            return runs.open_all(tx, [(user, basis, reason)]).get(user)

    def open_runs(
        self,
        wanted: Sequence[tuple[str, str, str]],
        now: datetime,
        *,
        seen: Mapping[str, datetime | None] | None = None,
    ) -> dict[str, Run]:
        """Queue a run for each (user, basis, reason); by user, without those for whom `open_run` gives None.

        `seen` are the `last_run_at` on which it was decided: who had a run since, or withdrew consent, gets none.
        """
        with self._write(now) as tx:
            return runs.open_all(tx, wanted, seen)

    def claim_runs(self, owner: str, limit: int, lease_s: float, now: datetime) -> list[Run]:
        """Claim queued and due runs, and running ones whose lease ran out, for `lease_s` from `now`."""
        with self._write(now) as tx:
            return [runs.to_run(row) for row in leases.claim(tx, RUNS, owner, limit, lease_s)]

    def extend_leases(self, pairs: Sequence[tuple[int, int]], lease_s: float, now: datetime) -> set[int]:
        """Move the end of these (run, epoch) leases; returns the runs that are still held."""
        with self._write(now) as tx:
            return leases.extend(tx, RUNS, pairs, lease_s)

    def retry_run(
        self, run: int, epoch: int, at: datetime, error_code: str, now: datetime, *, spent: Spent = Spent.ATTEMPT
    ) -> None:
        """Queue the run again, to be claimed after as long as from `now` to `at`. Raises StaleEpoch."""
        with self._write(now) as tx:
            leases.requeue(tx, RUNS, (run, epoch), tx.now + (at - now), error_code, spent)

    def return_runs(self, claims: Sequence[tuple[int, int]], error_code: str, now: datetime) -> int:
        """Queue again, as if never claimed, those of the (run, epoch) that are still held; returns how many."""
        with self._write(now) as tx:
            return len(leases.requeue_all(tx, RUNS, claims, tx.now, error_code))

    def fail_run(self, run: int, epoch: int, error_code: str, reason: str, now: datetime) -> None:
        """Give the run up: it becomes its user's dead letter. Raises StaleEpoch."""
        with self._write(now) as tx:
            runs.fail(tx, (run, epoch), error_code, reason)

    def retry_dead(
        self, tenant: str, wanted: Sequence[int] | None, limit: int, actor: str, now: datetime
    ) -> dict[int, Run]:
        """Open a run in place of each of these dead letters, or of the oldest; by the number of what it replaces.

        Without those whose user has withdrawn consent.
        """
        with self._write(now) as tx:
            return deadletters.retry(tx, tenant, wanted, limit, actor)

    def cancel_run(self, run: int, reason: str, now: datetime) -> Run | None:
        """Cancel an open run whoever holds it; None when it is not open."""
        with self._write(now) as tx:
            return runs.cancel(tx, run, reason)

    def finish_run(self, run: int, epoch: int, outcome: FinishedRun, now: datetime) -> AdapterVersion:
        """Settle the run, write its version, promote it if it won. Raises StaleEpoch, writing nothing."""
        with self._write(now) as tx:
            [finished] = finishing.finish(tx, [((run, epoch), outcome)])
        if not isinstance(finished, AdapterVersion):
            raise finished
        return finished

    def finish_runs(self, outcomes: Sequence[tuple[int, int, FinishedRun]], now: datetime) -> list[Finished]:
        """Settle (run, epoch, outcome) after another, all or none durable: a version for each, or why there is none.

        The errors among the answers are returned, not raised; their runs are as they were.
        """
        with self._write(now) as tx:
            return finishing.finish(tx, [((run, epoch), outcome) for run, epoch, outcome in outcomes])

    def open_basis(self, tenant: str, name: str, labels_hint: str, now: datetime) -> BasisRecord:
        """Queue the training of a Basis. Raises UnknownTenant."""
        with self._write(now) as tx:
            return bases.open_one(tx, tenant, name, labels_hint)

    def claim_basis(self, owner: str, lease_s: float, now: datetime) -> BasisRecord | None:
        with self._write(now) as tx:
            rows = leases.claim(tx, BASES, owner, 1, lease_s)
        return bases.to_basis(rows[0]) if rows else None

    def extend_basis(self, basis: int, epoch: int, lease_s: float, now: datetime) -> bool:
        """False when the claim was lost."""
        with self._write(now) as tx:
            return bool(leases.extend(tx, BASES, [(basis, epoch)], lease_s))

    def retry_basis(
        self, basis: int, epoch: int, at: datetime, error_code: str, now: datetime, *, spent: Spent = Spent.ATTEMPT
    ) -> None:
        """Queue it again, to be claimed after as long as from `now` to `at`. Raises StaleEpoch."""
        with self._write(now) as tx:
            leases.requeue(tx, BASES, (basis, epoch), tx.now + (at - now), error_code, spent)

    def fail_basis(self, basis: int, epoch: int, error_code: str, now: datetime) -> None:
        """Raises StaleEpoch."""
        with self._write(now) as tx:
            bases.fail(tx, (basis, epoch), error_code)

    def finish_basis(  # noqa: PLR0917
        self, basis: int, epoch: int, fingerprint: str, base: str, content: bytes, report: str, now: datetime
    ) -> BasisRecord:
        """Store the Basis: first its blob, durably, then the row that names it. Raises StaleEpoch."""
        claimed, made = (basis, epoch), FinishedBasis(fingerprint, base, content, report)
        with self._read() as connection:
            sealed = bases.sealed(connection, self._keys, claimed, made)
        blob = (self._blobs.keep(sealed), len(sealed))
        with self._write(now) as tx:
            # failpoint: basis-before-row
            return bases.finish(tx, claimed, made, blob)
