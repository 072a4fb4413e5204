"""The half of the Store that answers for what was erased and done: forgetting, receipts, the audit log, exports."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from storage import checkpoints, forgetting, keylists, receipts, tenants, users, verifying
from storage.errors import BlobsAway, BlobsRefused, DiskFailed
from storage.exports import Checkpoint, Exports
from storage.records import AuditReport, Receipt
from storage.rotating import Rotating
from storage.verifying import Known

AWAY = (BlobsAway, BlobsRefused, DiskFailed)
ERASE_AFTER = timedelta(days=7)
SCRUBBED = receipts.STAGES.index("scrubbed")


class Erasing(Rotating):
    """Forgets users, proves it, and keeps the audit log. Without a place for exports nothing is exported."""

    _exports: Exports | None = None
    _erase_after: timedelta = ERASE_AFTER

    def forget(self, tenant: str, external_id: str, actor: str, now: datetime) -> Receipt | None:
        """Destroy the user's key and rows. None when there never was such a user; again is harmless.

        The erasure is exported before this returns. Where the place for exports is away, the user is forgotten all the
        same, and `export_pending` completes it.
        """
        with self._write(now) as tx:
            done = forgetting.forget(tx, tenant, external_id, actor)
        if done is None:
            return None
        user, runs, events, versions = done
        self._keys.purge(user)
        # failpoint: forget-before-export
        self._export_erasures([user])
        # failpoint: forget-before-scrub
        found = self._receipt(user)
        if found is not None and found.stages[SCRUBBED].at is None and self.scrub(now):
            found = self._receipt(user)
        return None if found is None else replace(found, runs=runs, events=events, versions=versions)

    def scrub(self, now: datetime) -> bool:
        """Have no file hold older pages, which scrubs users forgotten before. False: a reader was in the way."""
        with self._read() as connection:
            open_ones, last = forgetting.unscrubbed(connection)
        # Nothing that a reader of an older snapshot may still see can be scrubbed.
        if (open_ones and not self._database.no_older_readers(last)) or not self._database.scrub():
            return False
        if open_ones:
            with self._write(now) as tx:
                forgetting.scrubbed(tx, open_ones)
        for user in open_ones:  # a reader of an older snapshot may have remembered the key; none is left now
            self._keys.purge(user)
        return True

    def erasure(self, tenant: str, external_id: str) -> Receipt | None:
        """The signed receipt of a forgotten user; None for one who never was forgotten, or who came back since."""
        with self._read() as connection:
            lookup = users.lookup(tenants.key_of(connection, self._keys, tenant), external_id)
            row = forgetting.tombstone(connection, tenant, lookup)
        return None if row is None else self._signed(receipts.receipt_of(row, self._erase_after))

    def erasures(self, tenant: str, limit: int = 100) -> list[Receipt]:
        """The signed receipts of the tenant's forgotten users, newest first."""
        with self._read() as connection:
            rows = forgetting.listed(connection, tenant, limit)
        return [self._signed(receipts.receipt_of(row, self._erase_after)) for row in rows]

    def roll_when_due(self, now: datetime) -> bool:
        """Roll the key epoch when somebody was forgotten long enough ago; whether it was done.

        Notes on the receipts what this or another daemon has rolled.
        """
        self.finish_roll(now)
        with self._write(now) as tx:
            forgetting.rolled(tx)
            due = forgetting.roll_due(tx.connection, tx.now - self._erase_after)
        if not due:
            return False
        # failpoint: erase-before-roll
        self.roll_epoch(now)
        # failpoint: erase-after-roll
        with self._write(now) as tx:
            forgetting.rolled(tx)
        self.export_keys(now)
        return True

    def export_keys(self, now: datetime) -> bool:
        """Keep the wrapped keys of the newest roll for backups made before it; False while the place is away."""
        epoch = self._keys.ring.primary()
        if self._exports is None or epoch == 1:
            return True
        try:
            if not self._exports.has_keys(epoch):
                with self._read() as connection:
                    kept = keylists.read(connection, epoch)
                if kept is not None:
                    self._exports.keep_keys(epoch, now, kept)
        except AWAY:
            return False
        return True

    def adopt_keys(self, now: datetime) -> int:
        """Take the wrapped keys of the newest roll when this database is a copy from before it; returns how many."""
        ring = self._keys.ring
        with self._read() as connection:
            outdated = keylists.outdated(connection, ring.epochs())
        if self._exports is None or not outdated:
            return 0
        listed = list(self._exports.keys(ring.primary()))
        with self._write(now) as tx:
            return keylists.adopt(tx, listed)

    def forget_keys(self) -> int:
        """Drop from this process's memory every key that another daemon has destroyed; returns how many."""
        with self._read() as connection:
            return self._keys.purge_destroyed(connection)

    def unexported(self) -> int:
        """How many erasures this process knows of that are not exported."""
        return 0 if self._exports is None else len(self._exports.pending)

    def export_pending(self, now: datetime) -> bool:
        """Export what could not be exported before; False while the place for exports is away."""
        if self._exports is None:
            return True
        with self._read() as connection:
            waiting = checkpoints.pending(connection)
        sent = self._export_checkpoints(waiting)
        if sent:
            with self._write(now) as tx:
                checkpoints.exported(tx, sent)
        return self._export_erasures(self._exports.pending) and len(sent) == len(waiting)

    def compare_exports(self) -> None:
        """Look for erasures that were not exported, as a crash may leave them. Raises BlobsAway or BlobsRefused."""
        if self._exports is not None:
            with self._read() as connection:
                buried = forgetting.buried(connection)
            self._exports.await_export(buried.difference(self._exports.erased()))

    def replay_erasures(self, now: datetime) -> int:
        """Erase again who was erased after the backup from which this database came; returns how many.

        Raises BlobsAway, BlobsRefused or DiskFailed when it can not be told, and ExportsForeign.
        """
        if self._exports is None:
            return 0
        with self._read() as connection:
            buried = forgetting.buried(connection)
        exported = self._exports.erased()
        again = [self._exports.erasure(user) for user in exported if user not in buried]
        with self._write(now) as tx:
            count = sum(forgetting.replay(tx, each) for each in sorted(again, key=lambda each: each.at))
        for each in again:
            self._keys.purge(each.user)
        self._exports.await_export(buried.difference(exported))
        return count

    def checkpoint_audit(self, now: datetime) -> Checkpoint | None:
        """Sign how far the audit chain has come, and export that; None when it is signed already."""
        with self._write(now) as tx:
            made = checkpoints.make(tx, self._keys.ring.signer())
        if made is not None:
            self.export_pending(now)
        return made

    def audit_due(self, now: datetime) -> bool:
        """Whether a checkpoint is due: after a minute, or after a thousand entries."""
        with self._read() as connection:
            return checkpoints.due(connection, now) is not None

    def verify_audit(self) -> AuditReport:
        """Hold the whole audit log against itself, the ring's keys, and what was exported of it."""
        ring = self._keys.ring
        told = None if self._exports is None else self._exports.told()
        return verifying.verify(self._database.read, Known(ring.signer().public, told, ring.audit_key()))

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

    def _export_erasures(self, whom: Iterable[str]) -> bool:
        if self._exports is None or not (wanted := list(whom)):
            return True
        with self._read() as connection:
            told = forgetting.told_of(connection, wanted)
        self._exports.await_export({each.user for each in told})
        try:
            for each in told:
                self._exports.keep_erasure(each)
        except AWAY:
            return False
        return True

    def _export_checkpoints(self, waiting: Iterable[Checkpoint]) -> list[Checkpoint]:
        sent: list[Checkpoint] = []
        try:
            for each in waiting:
                if self._exports is not None:
                    self._exports.keep_checkpoint(each)
                sent.append(each)
        except AWAY:
            return sent
        return sent

    def _receipt(self, user: str) -> Receipt | None:
        with self._read() as connection:
            row = forgetting.of_user(connection, user)
        return None if row is None else self._signed(receipts.receipt_of(row, self._erase_after))

    def _signed(self, receipt: Receipt) -> Receipt:
        return receipts.signed(self._keys.ring.signer(), receipt)
