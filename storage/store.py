"""The Store: the one door to the database, the blobs and the keys. Every method is one transaction.

Times are aware and given by the caller; the store reads no clock. Users are named by their internal id, except
where a host's own id comes in: record_events, user and forget.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from storage import bases, finishing, forgetting, leases, runs, schema, tenants, users
from storage import events as recording
from storage import versions as adapters
from storage.bases import FinishedBasis
from storage.blobs import Blobs
from storage.database import Database
from storage.datakeys import DataKeys
from storage.errors import EventIdReused, Unreadable, UserForgotten, WrongKeyRing
from storage.finishing import Finished
from storage.keys import KeyRing
from storage.leases import BASES, RUNS
from storage.outlived import Outlived, delete_all
from storage.reading import Readings
from storage.records import (
    AdapterVersion,
    BasisRecord,
    Caller,
    FinishedRun,
    NewEvent,
    Receipt,
    Recorded,
    Rotation,
    Run,
    Stage,
    Tenant,
)
from storage.transaction import Transaction


class Store(Readings):
    """An open store. Thread-safe; one at a time per database."""

    @classmethod
    def open(cls, url: str, *, keyring: KeyRing, blobs: Path, now: datetime) -> Self:
        """Open `sqlite:///path` and migrate it to the newest schema.

        Raises StoreInUse, SchemaTooNew, StoreDamaged, WrongPragma, KeysBesideData or WrongKeyRing.
        """
        database = Database(url, keyring.refuse_beside)
        try:
            keyring.refuse_beside(blobs)
            with database.write() as connection:
                schema.upgrade(connection)
            store = cls(database, DataKeys(keyring), Blobs(blobs))
            store._check_keys()
            store.scrub(now)  # completes a forgetting that a crash cut short
        except BaseException:
            database.close()
            raise
        return store

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_keys(self) -> None:
        ring = self._keys.ring
        try:
            with self._read() as connection:
                for tenant in tenants.listed(connection):
                    tenants.key_of(connection, self._keys, tenant.id)
        except Unreadable as problem:
            raise WrongKeyRing(str(ring.directory), str(self._database.path)) from problem

    @contextmanager
    def _write(self, now: datetime) -> Iterator[Transaction]:
        with self._database.write() as connection:
            yield Transaction(connection, self._keys, now)

    def ensure_tenant(self, name: str, now: datetime) -> Tenant:
        """The tenant of this name, made if it is new."""
        with self._write(now) as tx:
            return tenants.ensure(tx, name)

    def add_caller(self, tenant: str, name: str, scopes: Iterable[str], token: str, now: datetime) -> Caller:
        """Add the caller, or replace the scopes and token of the one of this name."""
        with self._write(now) as tx:
            return tenants.add_caller(tx, tenant, name, scopes, token)

    def record_events(
        self, tenant: str, events: Sequence[NewEvent], now: datetime, *, default_consent: bool = False
    ) -> list[Recorded | EventIdReused | UserForgotten]:
        """Record a batch durably: one outcome per event, in order. The errors among them are returned, not raised."""
        with self._write(now) as tx:
            return recording.record(tx, tenant, events, default_consent=default_consent)

    def delete_events(self, user: str, seqs: Sequence[int], now: datetime) -> int:
        """Delete these events; returns how many there were. Raises UnknownUser."""
        with self._write(now) as tx:
            return recording.delete_some(tx, user, seqs)

    def postpone_users(self, until: Mapping[str, datetime], now: datetime) -> None:
        """Keep each user out of due_users until then, so that waiting users do not hide those behind them."""
        with self._write(now) as tx:
            users.postpone(tx, until)

    def open_run(self, user: str, basis: str, reason: str, now: datetime) -> Run | None:
        """Queue a run; None when the user has one open, or is unknown or forgotten."""
        with self._write(now) as tx:
            return runs.open_all(tx, [(user, basis, reason)]).get(user)

    def open_runs(self, wanted: Sequence[tuple[str, str, str]], now: datetime) -> dict[str, Run]:
        """Queue a run for each (user, basis, reason); by user, without those for whom `open_run` gives None."""
        with self._write(now) as tx:
            return runs.open_all(tx, wanted)

    def claim_runs(self, owner: str, limit: int, lease_s: float, now: datetime) -> list[Run]:
        """Claim queued and due runs, and running ones whose lease ran out, for `lease_s` from `now`."""
        with self._write(now) as tx:
            return [runs.to_run(row) for row in leases.claim(tx, RUNS, owner, limit, lease_s)]

    def extend_leases(self, pairs: Sequence[tuple[int, int]], lease_s: float, now: datetime) -> set[int]:
        """Move the end of these (run, epoch) leases; returns the runs that are still held."""
        with self._write(now) as tx:
            return leases.extend(tx, RUNS, pairs, lease_s)

    def retry_run(self, run: int, epoch: int, at: datetime, error_code: str, now: datetime) -> None:
        """Queue the run again, to be claimed from `at` on. Raises StaleEpoch."""
        with self._write(now) as tx:
            leases.requeue(tx, RUNS, (run, epoch), at, error_code)

    def fail_run(self, run: int, epoch: int, error_code: str, reason: str, now: datetime) -> None:
        """End the run for good. Raises StaleEpoch."""
        with self._write(now) as tx:
            runs.fail(tx, (run, epoch), error_code, reason)

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

    def rollback(self, user: str, to: int | None, actor: str, now: datetime) -> AdapterVersion | None:
        """Serve version `to`, which was current once; 0: the generic model; None: the newest retired one before.

        Returns what is served now; None for the generic model. Raises UnknownUser or UnknownVersion.
        """
        with self._write(now) as tx:
            return adapters.rollback(tx, user, to, actor)

    def delete_versions(self, user: str, versions: Sequence[int], now: datetime) -> int:
        """Delete versions that are not current; returns how many there were. Raises CurrentVersionKept."""
        with self._write(now) as tx:
            return adapters.delete_some(tx, user, versions)

    def delete_outlived(self, outlived: Sequence[Outlived], now: datetime) -> int:
        """Delete versions and events of many users; returns how many. A version that is current by now stays."""
        with self._write(now) as tx:
            return delete_all(tx, outlived)

    def forget(self, tenant: str, external_id: str, actor: str, now: datetime) -> Receipt | None:
        """Destroy the user's key and rows. None when there never was such a user; again is harmless."""
        with self._write(now) as tx:
            receipt = forgetting.forget(tx, tenant, external_id, actor)
        if receipt is None:
            return None
        self._keys.purge(receipt.user)
        if receipt.complete or not self.scrub(now):
            return receipt
        stages = tuple(Stage(stage.name, stage.at or now) for stage in receipt.stages)
        return Receipt(receipt.user, stages, receipt.runs, receipt.events, receipt.versions)

    def scrub(self, now: datetime) -> bool:
        """Empty the WAL, which completes the receipts of users forgotten before. False: a reader was in the way."""
        if not self._database.checkpoint():
            return False
        with self._write(now) as tx:
            scrubbed = forgetting.scrubbed(tx)
        for user in scrubbed:  # a reader of an older snapshot may have remembered the key; none is left now
            self._keys.purge(user)
        return True

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

    def retry_basis(self, basis: int, epoch: int, at: datetime, error_code: str, now: datetime) -> None:
        """Queue it again, to be claimed from `at` on. Raises StaleEpoch."""
        with self._write(now) as tx:
            leases.requeue(tx, BASES, (basis, epoch), at, error_code)

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
            return bases.finish(tx, claimed, made, blob)

    def sweep_blobs(self, now: datetime, grace: timedelta = timedelta(hours=24)) -> int:
        """Remove blobs that no row names and that are older than `grace`; returns how many."""
        listed = self._blobs.list()
        with self._read() as connection:
            live = bases.blobs(connection)
        return self._blobs.sweep(listed, live, now - grace)

    def record_audit(  # noqa: PLR0917
        self,
        tenant: str | None,
        actor: str,
        action: str,
        object: str,
        outcome: str,
        now: datetime,
    ) -> None:
        """Chain an entry of the daemon's own. Nothing in it may identify a user but the internal id."""
        with self._write(now) as tx:
            tx.audit(tenant or "", actor, action, object, outcome)

    def rotate_keys(self, now: datetime) -> Rotation:
        """Make a new key epoch, rewrap every data key in small transactions, destroy the old epochs.

        From then on every older copy of a wrapped key, of forgotten users too, is useless. Reads go on meanwhile.
        Killed on the way, both epochs stay readable and the next rotation completes it.
        """
        ring = self._keys.ring
        ring.new_epoch()
        after, rewrapped = 0, 0
        while True:
            with self._write(now) as tx:
                batch = self._keys.rewrap(tx.connection, after)
                if batch is None:
                    tx.audit("", "store", "keys.rotate", str(ring.primary()), f"{rewrapped} rewrapped")
                    break
            after, rewrapped = batch[0], rewrapped + batch[1]
        old = tuple(epoch for epoch in ring.epochs() if epoch != ring.primary())
        if not self._database.checkpoint():  # a reader may still be about to unwrap under an old epoch
            return Rotation(rewrapped, ring.primary(), destroyed=(), pending=old)
        for epoch in old:
            ring.destroy_epoch(epoch)
        return Rotation(rewrapped, ring.primary(), destroyed=old, pending=())
