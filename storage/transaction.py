"""What a write has in hand: the connection inside one transaction, the data keys, and the time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from storage import audit, moves
from storage.audit import Entry
from storage.datakeys import DataKeys
from storage.moves import Moving


@dataclass(frozen=True, slots=True)
class Transaction:
    """Audit entries are collected, and chained last: the newest entry is a row that every other write waits for."""

    connection: Connection
    keys: DataKeys
    now: datetime
    _entries: list[Entry] = field(default_factory=list)
    _moves: list[Moving] = field(default_factory=list)

    def audit(self, tenant: str, actor: str, action: str, object: str, outcome: str) -> None:
        """Chain an entry; it commits or vanishes with the rest of the transaction."""
        self._entries.append(Entry(tenant, actor, action, object, outcome))

    def audit_all(self, entries: Sequence[Entry]) -> None:
        """Chain entries, in their order."""
        self._entries.extend(entries)

    def moved(self, moving: Moving) -> None:
        """Note a move of a user's pointer, which is audited in the same transaction."""
        self._moves.append(moving)

    def chain(self) -> None:
        """Put what was collected at the end of the chain. The last thing before the commit."""
        audit.append(self.connection, self.keys.ring.audit_key(), self._entries, self.now)
        moves.append(self.connection, self._moves, self.now)
