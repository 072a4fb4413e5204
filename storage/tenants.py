"""Tenants, and the callers that act for them."""

import hashlib
import uuid
from collections.abc import Iterable

from sqlalchemy import Connection, Row, insert, select, update

from storage.datakeys import DataKey, DataKeys
from storage.errors import BadRecord, UnknownTenant, Unreadable
from storage.records import Caller, Tenant
from storage.tables import callers, tenants
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


def key_of(connection: Connection, keys: DataKeys, tenant: str) -> DataKey:
    """The tenant's own data key. Raises UnknownTenant."""
    try:
        return keys.get(connection, tenant)
    except Unreadable:
        if connection.execute(select(tenants.c.id).where(tenants.c.id == tenant)).one_or_none() is None:
            raise UnknownTenant(tenant) from None
        raise


def add_caller(tx: Transaction, tenant: str, name: str, scopes: Iterable[str], token: str) -> Caller:
    """Add the caller, or give the one of this name these scopes and this token instead of its old ones."""
    granted = frozenset(scopes)
    if any(not scope or " " in scope for scope in granted):
        raise BadRecord("scope", "a word without spaces")
    key_of(tx.connection, tx.keys, tenant)
    values = {"scopes": " ".join(sorted(granted)), "token_hash": _hash(token)}
    of_name = (callers.c.tenant == tenant) & (callers.c.name == name)
    row = tx.connection.execute(select(callers).where(of_name)).one_or_none()
    if row is None:
        row_id = uuid.uuid4().hex
        tx.connection.execute(insert(callers).values(id=row_id, tenant=tenant, name=name, created_at=tx.now, **values))
    else:
        row_id = row.id
        if (row.scopes, row.token_hash) == (values["scopes"], values["token_hash"]):
            return _caller(row)
        tx.connection.execute(update(callers).where(of_name).values(**values))
    tx.audit(tenant, "store", "caller.set", row_id, str(values["scopes"]))
    return Caller(row_id, tenant, name, granted)


def caller(connection: Connection, token: str) -> Caller | None:
    """Who bears this token; None if nobody does."""
    row = connection.execute(select(callers).where(callers.c.token_hash == _hash(token))).one_or_none()
    return None if row is None else _caller(row)


def _caller(row: Row[tuple[object, ...]]) -> Caller:
    return Caller(row.id, row.tenant, row.name, frozenset(row.scopes.split()))


def _hash(token: str) -> bytes:
    # A token has 256 random bits, so a plain hash can not be searched.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
