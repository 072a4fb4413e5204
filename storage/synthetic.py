"""Users that are nobody's: made by the daemon itself, to see that its path works. No population learns from them."""

from sqlalchemy import ColumnElement, Connection, select, update

from storage import tenants
from storage import users as people
from storage.states import UserState
from storage.tables import users
from storage.transaction import Transaction


def is_somebodys() -> ColumnElement[bool]:
    """The condition that keeps them out of counts, lists and populations."""
    return users.c.synthetic.is_not(True)


def ensure(tx: Transaction, tenant: str, external_id: str) -> str:
    """The internal id of this one, made with consent if it is not there."""
    key = tenants.key_of(tx.connection, tx.keys, tenant)
    found = people.reserved(tx, tenant, [people.lookup(key, external_id)])
    if found:
        return str(found[0].id)
    user = people.create(tx, key, external_id, True)
    tx.connection.execute(update(users).where(users.c.id == user).values(synthetic=True))
    return user


def listed(connection: Connection) -> list[str]:
    """Every one of them, of all tenants."""
    query = select(users.c.id).where(users.c.synthetic.is_(True), users.c.state == UserState.ACTIVE)
    return list(connection.execute(query).scalars())
