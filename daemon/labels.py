"""Which labels a tenant's current Basis knows. A Basis never changes, so reading it once is enough."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from daemon.bases import BasisContents
from storage import Store

KEPT = 256


class Labels:
    """The closed label set of each tenant, or None where the Basis writes free text or does not exist yet."""

    def __init__(self, store: Store, contents: BasisContents, read: Callable[[bytes], frozenset[str] | None]) -> None:
        self._store, self._contents, self._read = store, contents, read
        self._known: OrderedDict[str, frozenset[str] | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, tenant: str) -> frozenset[str] | None:
        """The labels that an event of `tenant` may carry."""
        basis = self._store.current_basis(tenant)
        if basis is None or basis.fingerprint is None:
            return None
        with self._lock:
            if basis.fingerprint not in self._known:
                self._known[basis.fingerprint] = self._read(self._contents.read(tenant, basis.fingerprint))
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
            return self._known[basis.fingerprint]
