"""Switches as this daemon knows them: read with every tick, asked for with every request.

While the database is away, what was read last holds.
"""

from collections.abc import Callable
from datetime import datetime

from storage import Store, Switch

TRAINING, INGEST = "training", "ingest"


class Switches:
    """What is paused. Thread-safe: the list is replaced as a whole."""

    def __init__(self, store: Store, on_look: Callable[[frozenset[str]], object] = lambda _: None) -> None:
        self._store, self._on_look = store, on_look
        self._off: tuple[Switch, ...] = ()

    def look(self) -> None:
        """Read them again."""
        self._off = tuple(self._store.switches())
        self._on_look(frozenset(each.name for each in self._off))

    def off(self) -> tuple[Switch, ...]:
        """Those that are off."""
        return self._off

    def paused(self, name: str) -> bool:
        return any(each.name == name for each in self._off)

    def turn(self, name: str, actor: str, now: datetime, *, off: bool) -> bool:
        """Turn it for every daemon, for this one at once; whether that changed anything."""
        changed = self._store.turn_switch(name, actor, now, off=off)
        self.look()
        return changed
