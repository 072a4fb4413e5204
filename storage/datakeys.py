"""Data keys: one per user, and one per tenant for what belongs to no user. Made, unwrapped, remembered, destroyed."""

import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from storage import epochs
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
        place = _place(key.tenant, key.owner, key.key_id, key.generation)
        wrapped = self.ring.wrap(key.secret, place, epochs.primary(connection))
        connection.execute(
            insert(data_keys).values(
                tenant=tenant, owner=owner, key_id=key.key_id, generation=key.generation, wrapped=wrapped
            )
        )
        return key

    def get(self, connection: Connection, owner: str) -> DataKey:
        """Raises Unreadable when the key was destroyed, never existed, or is wrapped by another key ring."""
        key = self.of(connection, [owner])[owner]
        if isinstance(key, Unreadable):
            raise key
        return key

    def of(self, connection: Connection, owners: Sequence[str]) -> dict[str, DataKey | Unreadable]:
        """The key of each of `owners`, or why there is none.

        A remembered key of a user is only given where this very snapshot has a live one: another daemon may have
        destroyed it. A tenant's key is never destroyed.
        """
        self.ring.check()
        wanted = list(dict.fromkeys(owners))
        with self._guard:
            purges = self._purges
            known = {owner: self._known[owner] for owner in wanted if owner in self._known}
            for owner in known:
                self._known.move_to_end(owner)
        found: dict[str, DataKey | Unreadable] = {owner: key for owner, key in known.items() if key.tenant == owner}
        asked = [owner for owner in wanted if owner not in found]
        if not asked:
            return found
        rows = {row.owner: row for row in connection.execute(select(data_keys).where(data_keys.c.owner.in_(asked)))}
        found |= {owner: known[owner] for owner in asked if owner in known and _alive(known[owner], rows.get(owner))}
        read = {owner: self._unwrapped(owner, rows.get(owner)) for owner in asked if owner not in found}
        with self._guard:
            if purges == self._purges:  # else a row may come from a snapshot older than a forgetting
                self._known.update((owner, key) for owner, key in read.items() if isinstance(key, DataKey))
                while len(self._known) > self._cached:
                    self._known.popitem(last=False)
        return found | read

    def _unwrapped(self, owner: str, row: Row[tuple[object, ...]] | None) -> DataKey | Unreadable:
        if row is None or row.wrapped == DESTROYED:
            return Unreadable(f"the data key of {owner}")
        try:
            secret = self.ring.unwrap(row.wrapped, _place(row.tenant, owner, row.key_id, row.generation))
        except Unreadable as problem:
            return problem
        return DataKey(row.tenant, owner, row.key_id, row.generation, secret)

    def _rewrapped(self, row: Row[Any], epoch: int) -> bytes:
        place = _place(row.tenant, row.owner, row.key_id, row.generation)
        return self.ring.wrap(self.ring.unwrap(row.wrapped, place), place, epoch)

    def destroy(self, connection: Connection, owner: str) -> None:
        """Overwrite the wrapped key in place. Call `purge` once that is committed."""
        connection.execute(update(data_keys).where(data_keys.c.owner == owner).values(wrapped=DESTROYED))

    def purge_destroyed(self, connection: Connection) -> int:
        """Drop from memory every key that another daemon has destroyed; returns how many."""
        with self._guard:
            owners = list(self._known)
        gone: list[str] = []
        for start in range(0, len(owners), BATCH):
            of_these = data_keys.c.owner.in_(owners[start : start + BATCH])
            query = select(data_keys.c.owner).where(of_these, data_keys.c.wrapped == DESTROYED)
            gone += connection.execute(query).scalars()
        for owner in gone:
            self.purge(owner)
        return len(gone)

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
        epoch = epochs.primary(connection)
        stale = [row for row in rows if row.wrapped != DESTROYED and wrapped_epoch(row.wrapped) != epoch]
        moved = [{"row": row.id, "old": row.wrapped, "new": self._rewrapped(row, epoch)} for row in stale]
        if moved:
            connection.execute(REWRAP, moved)
        return rows[-1].id, len(stale)


REWRAP = (
    update(data_keys)
    .where(data_keys.c.id == bindparam("row"), data_keys.c.wrapped == bindparam("old"))
    .values(wrapped=bindparam("new"))
)
"""Only where the row is as it was read: who is forgotten meanwhile stays forgotten."""


def _alive(key: DataKey, row: Row[tuple[object, ...]] | None) -> bool:
    """Whether `row` still holds the key, however it is wrapped by now."""
    if row is None or row.wrapped == DESTROYED:
        return False
    return (row.key_id, row.generation) == (key.key_id, key.generation)


def _place(tenant: str, owner: str, key_id: bytes, generation: int) -> KeyPlace:
    return KeyPlace(bytes.fromhex(tenant), bytes.fromhex(owner), key_id, generation)
