"""Which adapters this daemon has named of late, so that replicas most likely still hold them."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from daemon.clock import monotonic
from daemon.predict_messages import Named

RECENT_S = 1.0
"""Less than the lease of an adapter in a replica."""

KEPT = 100_000


class Recent:
    """Names and when they were last told. Holds no content. Thread-safe."""

    def __init__(self, recent_s: float = RECENT_S, keep: int = KEPT) -> None:
        self._recent_s, self._keep = recent_s, keep
        self._told: OrderedDict[Named, float] = OrderedDict()
        self._lock = threading.Lock()

    def strangers(self, names: Sequence[Named]) -> list[Named]:
        """Those not told of late; all of them count as told from now on."""
        now = monotonic()
        with self._lock:
            found = [name for name in names if self._told.get(name, 0.0) < now - self._recent_s]
            for name in names:
                self._told[name] = now
                self._told.move_to_end(name)
            while self._told and (
                len(self._told) > self._keep or next(iter(self._told.values())) < now - self._recent_s
            ):
                self._told.popitem(last=False)
        return found
