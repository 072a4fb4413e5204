"""The adapters a host holds: by user, the least recently used go first, and what is revoked goes at once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from time import monotonic

from .answers import Fetched
from .errors import Stale


class Held:
    """A cache that is only as good as what was last heard of revocations. Thread-safe.

    Within `stale_s` of the last word from the feed an entry may be used without asking. After that the daemon is asked;
    if it is away, an entry that was not confirmed since is not used: `open_` says whether the generic model answers
    then, or Stale is raised.
    """

    def __init__(self, keep: int, stale_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._keep, self._stale_s, self._clock = keep, stale_s, clock
        self._entries: OrderedDict[str, Fetched] = OrderedDict()
        self._heard = -float("inf")
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def fresh(self) -> bool:
        """Whether the feed was heard of late enough that what is held may be used."""
        return self._clock() - self._heard <= self._stale_s

    def get(self, user: str) -> Fetched | None:
        """What is held, whether fresh or not."""
        with self._lock:
            found = self._entries.get(user)
            if found is not None:
                self._entries.move_to_end(user)
            return found

    def put(self, user: str, fetched: Fetched) -> None:
        with self._lock:
            self._entries[user] = fetched
            self._entries.move_to_end(user)
            while len(self._entries) > self._keep:
                self._entries.popitem(last=False)

    def hear(self, revoked: Collection[str], *, moved: bool) -> list[str]:
        """Drop what is revoked, and who was generic where anybody was `moved`; whom it was of.

        All of it where the feed was silent for longer than it may be: who knows what it would have told.
        """
        with self._lock:
            gap = not self.fresh
            digests = frozenset(revoked)
            gone = [
                user
                for user, each in self._entries.items()
                if gap or each.digest in digests or (moved and not each.digest)
            ]
            for user in gone:
                del self._entries[user]
            self._heard = self._clock()
            return gone

    def too_old(self) -> Stale:
        """For one who must not use what may have been revoked."""
        return Stale(self._stale_s)
