"""Key lists: the data keys as they are wrapped since an epoch roll, kept among the exports.

A roll makes the wrapped keys in every older copy of the database useless, those of users who stay too. The list gives
them back to a backup that was made before: whoever was erased by the time of the roll is not on it.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select, update

from storage.exports import WrappedKey
from storage.keys import DESTROYED, wrapped_epoch
from storage.tables import data_keys as table
from storage.tables import tenants
from storage.transaction import Transaction

AT_ONCE = 5_000


def read(connection: Connection, epoch: int) -> list[WrappedKey] | None:
    """Every living key; None unless all of them are wrapped under `epoch` already."""
    rows = connection.execute(select(table).order_by(table.c.id).execution_options(yield_per=AT_ONCE))
    alive = [WrappedKey(row.owner, row.key_id, row.generation, row.wrapped) for row in rows if row.wrapped != DESTROYED]
    return alive if all(wrapped_epoch(each.wrapped) == epoch for each in alive) else None


def outdated(connection: Connection, known: Iterable[int]) -> bool:
    """Whether a tenant's key is wrapped under none of the `known` epochs: this is a copy from before a roll."""
    query = select(table.c.wrapped).join(tenants, tenants.c.id == table.c.owner)
    epochs = set(known)
    return any(wrapped_epoch(wrapped) not in epochs for wrapped in connection.execute(query).scalars())


def adopt(tx: Transaction, listed: Iterable[WrappedKey]) -> int:
    """Take the wrapped keys of the list for those that are here and alive; returns how many rows took one."""
    same = (table.c.owner == bindparam("of")) & (table.c.key_id == bindparam("key")) & (table.c.wrapped != DESTROYED)
    statement = update(table).where(same, table.c.generation == bindparam("made")).values(wrapped=bindparam("now"))
    rows = [{"of": each.owner, "key": each.key_id, "made": each.generation, "now": each.wrapped} for each in listed]
    taken = sum(
        tx.connection.execute(statement, rows[start : start + AT_ONCE]).rowcount
        for start in range(0, len(rows), AT_ONCE)
    )
    if taken:
        tx.audit("", "restore", "keys.adopt", "store", f"{taken} adopted")
    return taken
