"""The adapters a replica holds: each for as long as requests go on to name it, and zeroed when it goes.

A daemon looks up who is served what for every request, and names it. So an entry is a lease: it ends a little after
the last request that named it, and what was rolled back or forgotten is gone from every replica by then, whoever it was
that did it and whatever has died since.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import plora
from daemon.clock import monotonic
from daemon.predict_messages import Named

LEASE_S = 1.5
KEPT = 50_000

Worn = plora.Adapter | plora.LowRankAdapter


@dataclass(slots=True)
class _Held:
    adapter: Worn = field(repr=False)
    until: float
    users: int = 0


class AdapterCache:
    """Adapters by name, at most `keep`. Thread-safe; what is in use is neither dropped nor zeroed."""

    def __init__(self, lease_s: float = LEASE_S, keep: int = KEPT) -> None:
        self._lease_s, self._keep = lease_s, keep
        self._held: OrderedDict[Named, _Held] = OrderedDict()  # the one that was named longest ago first
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        with self._changed:
            return len(self._held)

    def put(self, name: Named, adapter: Worn) -> None:
        """Hold `adapter`. A name stands for one sealed row: whoever is held under it already stays."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._sweep_for_ever, name="adapters", daemon=True)
                self._thread.start()
            if name not in self._held:
                self._held[name] = _Held(adapter, monotonic() + self._lease_s)
            self._name(name)
            while len(self._held) > self._keep and self._drop_oldest():
                pass
            self._changed.notify()

    def missing(self, names: Collection[Named]) -> tuple[str, ...]:
        """The digests of those that are not held; the leases of the others begin anew."""
        with self._changed:
            for name in names:
                if name in self._held:
                    self._name(name)
            return tuple(dict.fromkeys(name.digest for name in names if name not in self._held))

    @contextmanager
    def using(self, names: Collection[Named]) -> Iterator[Mapping[Named, Worn]]:
        """Those of `names` that are held, kept until the end of the `with`."""
        with self._changed:
            found = {name: self._held[name] for name in set(names) if name in self._held}
            for held in found.values():
                held.users += 1
        try:
            yield {name: held.adapter for name, held in found.items()}
        finally:
            with self._changed:
                for held in found.values():
                    held.users -= 1

    def _name(self, name: Named) -> None:
        self._held[name].until = monotonic() + self._lease_s
        self._held.move_to_end(name)

    def _drop_oldest(self) -> bool:
        for name, held in self._held.items():
            if not held.users:
                _zero(held.adapter)
                del self._held[name]
                return True
        return False

    def _sweep_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held)
                ended = [name for name, held in self._held.items() if held.until <= monotonic() and not held.users]
                for name in ended:
                    _zero(self._held.pop(name).adapter)
                self._changed.wait(self._lease_s / 6)


def _zero(adapter: Worn) -> None:
    tensors = adapter.tensors.values() if isinstance(adapter, plora.LowRankAdapter) else (adapter.vector,)
    for tensor in tensors:
        tensor.zero_()
