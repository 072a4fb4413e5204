"""What a write has in hand: the connection inside one transaction, the data keys, and the time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from storage import audit
from storage.audit import Entry
from storage.datakeys import DataKeys


@dataclass(frozen=True, slots=True)
class Transaction:
    connection: Connection
    keys: DataKeys
    now: datetime

    def audit(self, tenant: str, actor: str, action: str, object: str, outcome: str) -> None:
        """Chain an entry; it commits or vanishes with the rest of the transaction."""
        self.audit_all([Entry(tenant, actor, action, object, outcome)])

    def audit_all(self, entries: Sequence[Entry]) -> None:
        """Chain entries, in their order."""
        audit.append(self.connection, self.keys.ring.audit_key(), entries, self.now)
