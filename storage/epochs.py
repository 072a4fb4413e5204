"""Key epochs in the database: which one wraps new data keys, and what became of the others.

A data key is made under the primary epoch while its row is held FOR SHARE; rotating takes the row FOR UPDATE. So when
a rotation has moved the primary, no key can still be made under the one before. SQLite has one writer at a time.
"""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, insert, select, text, update

from storage.errors import Unreadable
from storage.keys import DESTROYED, KeyRing
from storage.records import EpochStatus
from storage.states import EpochState
from storage.tables import data_keys
from storage.tables import key_epochs as table

if TYPE_CHECKING:
    from storage.transaction import Transaction

TRIES = 5
ALIVE = (EpochState.PRIMARY, EpochState.ENABLED)


def primary(connection: Connection, *, moving: bool = False) -> int:
    """The epoch that wraps data keys, fixed until the transaction ends. Raises Unreadable when there is none."""
    query = select(table.c.epoch).where(table.c.state == EpochState.PRIMARY).with_for_update(read=not moving)
    for _ in range(TRIES):  # who waited for a rotation finds the row changed, and the new one only with the next look
        found = connection.execute(query).scalar()
        if found is not None:
            return int(found)
    raise Unreadable("the primary key epoch")


def agrees(connection: Connection, ring: KeyRing) -> bool:
    """Whether the rows tell the ring's epochs, the newest as the primary one."""
    rows = {row.epoch: row.state for row in connection.execute(select(table))}
    alive = {epoch for epoch, state in rows.items() if state is not EpochState.DESTROYED}
    return alive == set(ring.epochs()) and rows[ring.primary()] is EpochState.PRIMARY


def adopt(tx: "Transaction") -> None:
    """Make the rows tell what the provider has: a ring older than they are, or a rotation that died at once.

    An epoch that vanished from the provider is final only after the provider's delay.
    """
    if tx.connection.dialect.name == "postgresql":  # several daemons that start together
        tx.connection.execute(text("LOCK TABLE key_epochs IN SHARE ROW EXCLUSIVE MODE"))
    known = tx.keys.ring.epochs()
    rows = {row.epoch for row in tx.connection.execute(select(table))}
    gone = (table.c.epoch.not_in(known)) & (table.c.state != EpochState.DESTROYED)
    final = tx.now + tx.keys.ring.delay
    tx.connection.execute(update(table).where(gone).values(state=EpochState.DESTROYED, destroyed_at=final))
    for epoch in known:
        if epoch not in rows:
            _add(tx, epoch, EpochState.ENABLED)
    promote(tx, tx.keys.ring.primary())


def promote(tx: "Transaction", epoch: int) -> None:
    """Let `epoch` wrap from now on, unless a newer one does."""
    query = select(table.c.epoch).where(table.c.state == EpochState.PRIMARY)
    before = max(tx.connection.execute(query.with_for_update()).scalars(), default=0)
    if before >= epoch:
        return
    tx.connection.execute(update(table).where(table.c.state == EpochState.PRIMARY).values(state=EpochState.ENABLED))
    tx.connection.execute(delete(table).where(table.c.epoch == epoch))
    _add(tx, epoch, EpochState.PRIMARY)


def retire(tx: "Transaction") -> tuple[int, ...]:
    """Mark the old epochs under which no data key is wrapped as to be destroyed."""
    used = counts(tx.connection)
    old = select(table.c.epoch).where(table.c.state == EpochState.ENABLED)
    unused = [epoch for epoch in tx.connection.execute(old).scalars() if epoch not in used]
    tx.connection.execute(
        update(table).where(table.c.epoch.in_(unused)).values(state=EpochState.DESTROY_PENDING, destroyed_at=tx.now)
    )
    return tuple(sorted(unused))


def pending(connection: Connection) -> list[EpochStatus]:
    """Those to be destroyed, oldest first; `destroyed_at` says since when."""
    query = select(table).where(table.c.state == EpochState.DESTROY_PENDING).order_by(table.c.epoch)
    return [EpochStatus(row.epoch, row.state, 0, row.created_at, row.destroyed_at) for row in connection.execute(query)]


def destroyed(tx: "Transaction", epoch: EpochStatus) -> None:
    """Note that nobody can have it any more from `destroyed_at` on."""
    values = {"state": EpochState.DESTROYED, "destroyed_at": epoch.destroyed_at}
    tx.connection.execute(update(table).where(table.c.epoch == epoch.epoch).values(values))
    tx.audit("", "store", "keys.destroy", str(epoch.epoch), "final" if epoch.destroyed_at == tx.now else "refused")


def listed(connection: Connection) -> tuple[EpochStatus, ...]:
    """Every epoch there ever was, with how many data keys it wraps."""
    used = counts(connection)
    rows = connection.execute(select(table).order_by(table.c.epoch))
    return tuple(
        EpochStatus(row.epoch, row.state, used.get(row.epoch, 0), row.created_at, row.destroyed_at) for row in rows
    )


def counts(connection: Connection) -> dict[int, int]:
    """How many living data keys each epoch wraps. Reads every key's row."""
    named = func.substr(data_keys.c.wrapped, 2, 4)
    query = select(named, func.count()).where(data_keys.c.wrapped != DESTROYED).group_by(named)
    return {int.from_bytes(bytes(epoch), "big"): count for epoch, count in connection.execute(query)}


def _add(tx: "Transaction", epoch: int, state: EpochState) -> None:
    provider = tx.keys.ring.provider
    tx.connection.execute(insert(table).values(epoch=epoch, provider=provider, state=state, created_at=tx.now))
