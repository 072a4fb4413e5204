"""The Store: the one door to the database, the blobs and the keys. Every method is one transaction.

Times are aware and given by the caller; the store reads no clock. Users are named by their internal id, except
where a host's own id comes in: record_events, user and forget.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from storage import callers, epochs, replaying, schema, switches, synthetic, tenants, users
from storage import events as recording
from storage import versions as adapters
from storage.blobs import Blobs
from storage.database import Database
from storage.datakeys import DataKeys
from storage.erasing import ERASE_AFTER
from storage.errors import EventIdReused, Unreadable, UserForgotten
from storage.exports import Exports
from storage.fileblobs import FileBlobs
from storage.grouping import Batch, Grouping
from storage.key_errors import WrongKeyRing
from storage.keys import KeyRing
from storage.outlived import Outlived, delete_all
from storage.postgres import Clock, Postgres
from storage.records import (
    AdapterVersion,
    Caller,
    CallerRecord,
    NewEvent,
    Recorded,
    Tenant,
)
from storage.replaying import Replayed
from storage.rolling import Rolling
from storage.sqlite import SQLite
from storage.transaction import Transaction


class Store(Rolling):
    """An open store. Thread-safe; one at a time per SQLite database, any number on PostgreSQL."""

    _grouping: Grouping

    @classmethod
    def open(
        cls,
        url: str,
        *,
        keyring: KeyRing,
        blobs: Path | Blobs,
        now: datetime,
        exports: Blobs | None = None,
        erase_after: timedelta = ERASE_AFTER,
        clock: Clock | None = None,
        migrate: bool = True,
    ) -> Self:
        """Open `sqlite:///path` or `postgresql://...` and migrate it to the newest schema, or raise SchemaBehind.

        On PostgreSQL the time of a write is the database's, unless a `clock` says otherwise; on SQLite the caller's.

        Whom `exports` tells to be erased, and who is here again as in a restored backup, is erased before this returns.
        `erase_after` a forgetting its key epoch is to be rolled. Raises StoreInUse, SchemaTooNew, StoreDamaged,
        WrongPragma, KeysBesideData or WrongKeyRing, and what the exports raise.
        """
        database = _database(url, keyring, clock)
        try:
            if isinstance(blobs, Path):
                keyring.refuse_beside(blobs)
                blobs = FileBlobs(blobs)
            if migrate:
                database.migrate(schema.upgrade)
            else:
                with database.read() as connection:
                    schema.need(connection)
            store = cls(database, DataKeys(keyring), blobs)
            store._grouping = Grouping(store._record, database.name)
            store._exports = None if exports is None else Exports(exports, keyring.signer())
            store._erase_after = erase_after
            store.adopt_keys(now)
            store._check_keys()
            store._adopt_epochs(now)
            store.replay_erasures(now)
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
            raise WrongKeyRing(str(ring.directory), self._database.name) from problem

    def _adopt_epochs(self, now: datetime) -> None:
        with self._read() as connection:
            agrees = epochs.agrees(connection, self._keys.ring)
        if not agrees:
            with self._write(now) as tx:
                epochs.adopt(tx)

    @contextmanager
    def _write(self, now: datetime) -> Iterator[Transaction]:
        with self._database.write(now, self._scope) as writing:
            tx = Transaction(writing.connection, self._keys, writing.now)
            yield tx
            tx.chain()
            # failpoint: transaction-before-commit

    def ensure_tenant(self, name: str, now: datetime) -> Tenant:
        """The tenant of this name, made if it is new."""
        with self._write(now) as tx:
            return tenants.ensure(tx, name)

    def add_caller(
        self,
        tenant: str,
        name: str,
        scopes: Iterable[str],
        token: str,
        now: datetime,
        *,
        expires_at: datetime | None = None,
    ) -> Caller:
        """Add the caller, or replace the scopes and token of the one of this name."""
        with self._write(now) as tx:
            return callers.add(tx, tenant, name, scopes, token, expires_at=expires_at)

    def revoke_caller(self, tenant: str, name: str, actor: str, now: datetime) -> CallerRecord | None:
        """End the token of the caller of this name; None if the tenant has no such caller."""
        with self._write(now) as tx:
            return callers.revoke(tx, tenant, name, actor)

    def ensure_synthetic(self, tenant: str, external_id: str, now: datetime) -> str:
        """The internal id of a user that is nobody's, made with consent if it is not there."""
        with self._write(now) as tx:
            return synthetic.ensure(tx, tenant, external_id)

    def turn_switch(self, name: str, actor: str, now: datetime, *, off: bool) -> bool:
        """Turn a switch for every daemon; whether that changed anything."""
        with self._write(now) as tx:
            return switches.turn(tx, name, actor, off=off)

    def replay_user(self, user: str, actor: str, now: datetime) -> Replayed:
        """Have all that is kept of the user count as fresh. Raises UnknownUser."""
        with self._write(now) as tx:
            return replaying.of_user(tx, user, actor)

    def replay_since(self, tenant: str, at: datetime, actor: str, now: datetime, *, after: str, limit: int) -> Replayed:
        """Have what came of the tenant's users since `at` count as fresh: `limit` users from the one behind `after`."""
        with self._write(now) as tx:
            return replaying.since(tx, tenant, at, actor, after=after, limit=limit)

    def note(self, tenant: str, actor: str, action: str, outcome: str, now: datetime) -> None:
        """An entry of the audit log about something that changed nothing here."""
        with self._write(now) as tx:
            tx.audit(tenant, actor, action, "", outcome)

    def record_events(
        self, tenant: str, events: Sequence[NewEvent], now: datetime, *, default_consent: bool = False
    ) -> list[Recorded | EventIdReused | UserForgotten]:
        """Record a batch durably: one outcome per event, in order. The errors among them are returned, not raised."""
        return self._grouping.add(Batch(tenant, default_consent, events, now))

    def _record(self, batch: Batch) -> list[recording.Outcome]:
        with self.within(batch.tenant)._write(batch.now) as tx:
            return recording.record(tx, batch.tenant, batch.events, default_consent=batch.default_consent)

    def delete_events(self, user: str, seqs: Sequence[int], now: datetime) -> int:
        """Delete these events; returns how many there were. Raises UnknownUser."""
        with self._write(now) as tx:
            return recording.delete_some(tx, user, seqs)

    def postpone_users(self, until: Mapping[str, datetime], now: datetime) -> None:
        """Keep each user out of due_users until then, so that waiting users do not hide those behind them."""
        with self._write(now) as tx:
            users.postpone(tx, until)

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


def _database(url: str, keyring: KeyRing, clock: Clock | None) -> Database:
    return Postgres(url, clock) if url.startswith("postgresql") else SQLite(url, keyring.refuse_beside)
