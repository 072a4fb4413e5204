"""Tenants, each a closed world."""

import uuid

from sqlalchemy import Connection, insert, select

from storage.datakeys import DataKey, DataKeys
from storage.errors import BadRecord, UnknownTenant, Unreadable
from storage.records import Tenant
from storage.tables import tenants
from storage.transaction import Transaction


def ensure(tx: Transaction, name: str) -> Tenant:
    """The tenant of this name, made with its data key if it is new."""
    if not 0 < len(name) <= 128:
        raise BadRecord("tenant name", "1 to 128 characters")
    row = tx.connection.execute(select(tenants).where(tenants.c.name == name)).one_or_none()
    if row is not None:
        return Tenant(row.id, row.name, row.created_at)
    tenant = Tenant(uuid.uuid4().hex, name, tx.now)
    tx.connection.execute(insert(tenants).values(id=tenant.id, name=name, created_at=tx.now))
    tx.keys.create(tx.connection, tenant.id, tenant.id)
    tx.audit(tenant.id, "store", "tenant.create", tenant.id, "created")
    return tenant


def listed(connection: Connection) -> list[Tenant]:
    rows = connection.execute(select(tenants).order_by(tenants.c.name))
    return [Tenant(row.id, row.name, row.created_at) for row in rows]


def named(connection: Connection, name: str) -> Tenant | None:
    row = connection.execute(select(tenants).where(tenants.c.name == name)).one_or_none()
    return None if row is None else Tenant(row.id, row.name, row.created_at)


def key_of(connection: Connection, keys: DataKeys, tenant: str) -> DataKey:
    """The tenant's own data key. Raises UnknownTenant."""
    try:
        return keys.get(connection, tenant)
    except Unreadable:
        if connection.execute(select(tenants.c.id).where(tenants.c.id == tenant)).one_or_none() is None:
            raise UnknownTenant(tenant) from None
        raise
