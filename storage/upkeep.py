"""The half of the Store that looks after what is kept: orphans swept, losses found and replaced."""

from abc import abstractmethod
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from storage import bases, scrubbing
from storage.reading import Readings
from storage.scrubbing import BlobScrub, Look
from storage.transaction import Transaction


class Upkeep(Readings):
    """What an open store does for itself now and then, and what heals it when a read has failed."""

    @abstractmethod
    def _write(self, now: datetime) -> AbstractContextManager[Transaction]: ...

    def sweep_blobs(self, now: datetime, grace: timedelta = timedelta(hours=24)) -> int:
        """Remove blobs that no row names and that are older than `grace`; returns how many."""
        listed = self._blobs.list()
        # failpoint: upkeep
        with self._read() as connection:
            live = bases.blobs(connection)
        return self._blobs.sweep(listed, live, now - grace)

    def scrub_blobs(self, now: datetime, share: float = 0.01) -> BlobScrub:
        """Look at the Bases not looked at for a week and at a `share` of the current adapters; replace what is lost."""
        with self._read() as connection:
            stale = scrubbing.stale(connection, self._keys, now - scrubbing.CHECK_EVERY)
            sample = scrubbing.sample(connection, self._keys, share)
        looked = {each.basis: scrubbing.look(self._blobs, each) for each in stale}
        untold = sum(told is Look.UNTOLD for told in looked.values())
        if len(looked) == untold and not sample.suspects:
            return BlobScrub(0, sample.opened, untold=untold)
        with self._write(now) as tx:
            bad = scrubbing.settle(tx, looked)
            replaced = [(user, lost) for user in sample.suspects if (lost := scrubbing.replace(tx, user)) is not None]
        return BlobScrub(len(looked) - untold, sample.opened, tuple(bad), tuple(replaced), untold)

    def mend_basis(self, fingerprint: str, tenant: str, now: datetime) -> bool:
        """Whether a Basis that could not be read is lost: then the one before it serves and another is queued."""
        with self._read() as connection:
            found = scrubbing.ready(connection, self._keys, fingerprint, tenant)
        looked = {each.basis: scrubbing.look(self._blobs, each) for each in found}
        with self._write(now) as tx:
            return bool(scrubbing.settle(tx, looked))

    def mend_adapter(self, user: str, now: datetime) -> bool:
        """Whether the user's current version does not open: then one before it that does is served, or the generic."""
        with self._write(now) as tx:
            return scrubbing.replace(tx, user) is not None
