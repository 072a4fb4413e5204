"""The half of the Store that changes keys: new epochs, data keys rewrapped, old epochs destroyed."""

from dataclasses import replace
from datetime import datetime

from storage import epochs
from storage.errors import StorageError
from storage.key_errors import KeyRingReadOnly
from storage.records import KeysStatus, Rotation
from storage.upkeep import Upkeep


class Rotating(Upkeep):
    """Rotates while others read and write; a call that was killed is completed by the next one."""

    def rotate_keys(self, now: datetime) -> Rotation:
        """Make a new key epoch and rewrap every data key under it in small transactions. The old epochs stay.

        Killed on the way, all epochs stay readable. A completed rotation makes a new transport key, too, unless the
        ring is a mounted Secret: its operator does.
        """
        epoch = self._next_epoch()
        # failpoint: rotate-before-primary
        with self._write(now) as tx:
            epochs.promote(tx, epoch)
        after, rewrapped = 0, 0
        while True:
            # failpoint: rotate-before-batch
            with self._write(now) as tx:
                batch = self._keys.rewrap(tx.connection, after)
                if batch is None:
                    if not self._keys.ring.read_only:
                        self._keys.ring.transport.rotate()
                    tx.audit("", "store", "keys.rotate", str(epoch), f"{rewrapped} rewrapped")
                    return Rotation(rewrapped, epoch, destroyed=(), pending=())
            after, rewrapped = batch[0], rewrapped + batch[1]

    def _next_epoch(self) -> int:
        """A new one; of a mounted Secret, which only its operator changes, the newest, while keys wait to be moved."""
        try:
            return self._keys.ring.new_epoch()
        except KeyRingReadOnly:
            newest = self._keys.ring.look_again()
            with self._read() as connection:
                waiting = any(epoch < newest for epoch in epochs.counts(connection))
            if not waiting:
                raise
            return newest

    def roll_epoch(self, now: datetime) -> Rotation:
        """Rotate, and destroy the old epochs: every older copy of a wrapped key, of the forgotten too, is useless then.

        `pending` are those that a reader may still be about to unwrap under; `finish_roll` destroys them later, and
        the old transport keys once no cohort under them can be under way.
        """
        rotation = self.rotate_keys(now)
        with self._write(now) as tx:
            epochs.retire(tx)
        if not self._keys.ring.read_only:
            self._keys.ring.transport.roll(now)
        done = self.finish_roll(now)
        with self._read() as connection:
            left = tuple(each.epoch for each in epochs.pending(connection))
        return replace(rotation, destroyed=done, pending=left)

    def finish_roll(self, now: datetime) -> tuple[int, ...]:
        """Destroy the epochs that a roll has left behind, once no reader is older than it; which ones it were."""
        self._keys.ring.transport.retire(now)
        with self._read() as connection:
            waiting = epochs.pending(connection)
        since = max((each.destroyed_at for each in waiting if each.destroyed_at is not None), default=now)
        if not waiting or not self._database.no_older_readers(since):
            return ()
        done: list[int] = []
        for each in waiting:
            # failpoint: rotate-before-destroy
            try:
                final = self._keys.ring.destroy_epoch(each.epoch)
            except KeyRingReadOnly:  # until its operator has taken it out of the Secret
                continue
            done.append(each.epoch)
            with self._write(now) as tx:
                epochs.destroyed(tx, replace(each, destroyed_at=tx.now + final))
        return tuple(done)

    def keys_problem(self) -> StorageError | None:
        """Why the provider of the key epochs could not be asked the last time, if it could not."""
        return self._keys.ring.problem()

    def keys_status(self) -> KeysStatus:
        """Every key epoch, what it wraps and what became of it."""
        ring = self._keys.ring
        with self._read() as connection:
            known = epochs.listed(connection)
        return KeysStatus(ring.provider, known, ring.failures, ring.problem() is None, ring.transport.numbers())
