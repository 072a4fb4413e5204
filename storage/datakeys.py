"""Data keys: one per user, and one per tenant for what belongs to no user. Made, unwrapped, remembered, destroyed."""

import hmac
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from sqlalchemy import Connection, insert, select, update

from storage.errors import Unreadable
from storage.keys import DESTROYED, KeyPlace, KeyRing, wrapped_epoch
from storage.sealing import derive
from storage.tables import data_keys

CACHED = 10_000
GENERATION = 1
BATCH = 500


@dataclass(frozen=True, slots=True)
class DataKey:
    tenant: str
    owner: str
    key_id: bytes
    generation: int
    secret: bytes = field(repr=False)

    def digest16(self, purpose: bytes, *parts: bytes) -> bytes:
        """A 16-byte HMAC of `parts` under a key for this purpose alone; no two lists of parts run together."""
        joined = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(derive(self.secret, purpose), joined, "sha256")[:16]


class DataKeys:
    """The only place where data keys are unwrapped. Remembers the last used ones."""

    def __init__(self, ring: KeyRing, cached: int = CACHED) -> None:
        self.ring = ring
        self._cached = cached
        self._known: OrderedDict[str, DataKey] = OrderedDict()
        self._purges = 0
        self._guard = threading.Lock()

    def create(self, connection: Connection, tenant: str, owner: str) -> DataKey:
        """A new key for `owner`, which is a user or the tenant itself."""
        key = DataKey(tenant, owner, secrets.token_bytes(16), GENERATION, secrets.token_bytes(32))
        wrapped = self.ring.wrap(key.secret, _place(key.tenant, key.owner, key.key_id, key.generation))
        connection.execute(
            insert(data_keys).values(
                tenant=tenant, owner=owner, key_id=key.key_id, generation=key.generation, wrapped=wrapped
            )
        )
        return key

    def get(self, connection: Connection, owner: str) -> DataKey:
        """Raises Unreadable when the key was destroyed, never existed, or is wrapped by another key ring."""
        with self._guard:
            purges = self._purges
            if owner in self._known:
                self._known.move_to_end(owner)
                return self._known[owner]
        row = connection.execute(select(data_keys).where(data_keys.c.owner == owner)).one_or_none()
        if row is None or row.wrapped == DESTROYED:
            raise Unreadable(f"the data key of {owner}")
        secret = self.ring.unwrap(row.wrapped, _place(row.tenant, owner, row.key_id, row.generation))
        key = DataKey(row.tenant, owner, row.key_id, row.generation, secret)
        with self._guard:
            if purges == self._purges:  # else `row` may come from a snapshot older than a forgetting
                self._known[owner] = key
                while len(self._known) > self._cached:
                    self._known.popitem(last=False)
        return key

    def destroy(self, connection: Connection, owner: str) -> None:
        """Overwrite the wrapped key in place. Call `purge` once that is committed."""
        connection.execute(update(data_keys).where(data_keys.c.owner == owner).values(wrapped=DESTROYED))

    def purge(self, owner: str) -> None:
        """Drop the key from memory, and whatever a reader is just about to remember."""
        with self._guard:
            self._purges += 1
            self._known.pop(owner, None)

    def rewrap(self, connection: Connection, after: int) -> tuple[int, int] | None:
        """Wrap the next keys after row `after` under the primary epoch: (last row seen, how many), None at the end."""
        rows = connection.execute(
            select(data_keys).where(data_keys.c.id > after).order_by(data_keys.c.id).limit(BATCH)
        ).all()
        if not rows:
            return None
        stale = [row for row in rows if row.wrapped != DESTROYED and wrapped_epoch(row.wrapped) != self.ring.primary()]
        for row in stale:
            place = _place(row.tenant, row.owner, row.key_id, row.generation)
            wrapped = self.ring.wrap(self.ring.unwrap(row.wrapped, place), place)
            connection.execute(
                update(data_keys)
                .where(data_keys.c.id == row.id, data_keys.c.wrapped == row.wrapped)
                .values(wrapped=wrapped)
            )
        return rows[-1].id, len(stale)


def _place(tenant: str, owner: str, key_id: bytes, generation: int) -> KeyPlace:
    return KeyPlace(bytes.fromhex(tenant), bytes.fromhex(owner), key_id, generation)
