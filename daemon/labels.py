"""Which labels a tenant's current Basis knows. A Basis never changes, so reading it once is enough."""

import threading
from collections.abc import Callable

from daemon.bases import BasisContents
from storage import Store


class Labels:
    """The closed label set of each tenant, or None where the Basis writes free text or does not exist yet."""

    def __init__(self, store: Store, contents: BasisContents, read: Callable[[bytes], frozenset[str] | None]) -> None:
        self._store, self._contents, self._read = store, contents, read
        self._known: dict[str, frozenset[str] | None] = {}
        self._lock = threading.Lock()

    def of(self, tenant: str) -> frozenset[str] | None:
        """The labels that an event of `tenant` may carry."""
        basis = self._store.current_basis(tenant)
        if basis is None or basis.fingerprint is None:
            return None
        with self._lock:
            if basis.fingerprint not in self._known:
                self._known[basis.fingerprint] = self._read(self._contents.read(tenant, basis.fingerprint))
            return self._known[basis.fingerprint]
