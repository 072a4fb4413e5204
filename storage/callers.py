"""Those who act for a tenant: known by the hash of a bearer token, until it expires or is revoked."""

import hashlib
import uuid
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from storage.errors import BadRecord
from storage.records import Caller, CallerRecord
from storage.tables import callers
from storage.tenants import key_of
from storage.transaction import Transaction

NAME_CHARS = 128


def add(
    tx: Transaction, tenant: str, name: str, scopes: Iterable[str], token: str, *, expires_at: datetime | None = None
) -> Caller:
    """Add the caller, or give the one of this name these scopes and this token instead of its old ones.

    A token that was revoked stays revoked; another token in its place is not.
    """
    granted = frozenset(scopes)
    if any(not scope or " " in scope for scope in granted):
        raise BadRecord("scope", "a word without spaces")
    if not 0 < len(name) <= NAME_CHARS:
        raise BadRecord("caller name", f"1 to {NAME_CHARS} characters")
    key_of(tx.connection, tx.keys, tenant)  # the tenant exists
    values = {"scopes": " ".join(sorted(granted)), "token_hash": _hash(token), "expires_at": expires_at}
    row = tx.connection.execute(select(callers).where(_named(tenant, name))).one_or_none()
    if row is None:
        row_id = uuid.uuid4().hex
        tx.connection.execute(insert(callers).values(id=row_id, tenant=tenant, name=name, created_at=tx.now, **values))
    else:
        row_id = row.id
        if (row.scopes, row.token_hash, row.expires_at) == tuple(values.values()):
            return _caller(row)
        revoked = row.revoked_at if row.token_hash == values["token_hash"] else None
        tx.connection.execute(update(callers).where(_named(tenant, name)).values(revoked_at=revoked, **values))
    tx.audit(tenant, "store", "caller.set", row_id, str(values["scopes"]))
    return Caller(row_id, tenant, name, granted)


def revoke(tx: Transaction, tenant: str, name: str, actor: str) -> CallerRecord | None:
    """End the token of the caller of this name, for good; None if there is no such caller."""
    row = tx.connection.execute(select(callers).where(_named(tenant, name))).one_or_none()
    if row is None:
        return None
    if row.revoked_at is None:
        tx.connection.execute(update(callers).where(callers.c.id == row.id).values(revoked_at=tx.now))
        tx.audit(tenant, actor, "caller.revoke", row.id, "revoked")
    return _record(tx.connection.execute(select(callers).where(callers.c.id == row.id)).one())


def find(connection: Connection, token: str, now: datetime) -> Caller | None:
    """Who bears this token; None if nobody does, or not any more."""
    row = connection.execute(select(callers).where(callers.c.token_hash == _hash(token))).one_or_none()
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        return None
    return _caller(row)


def listed(connection: Connection, tenant: str) -> list[CallerRecord]:
    """By name, those whose token has ended too."""
    rows = connection.execute(select(callers).where(callers.c.tenant == tenant).order_by(callers.c.name))
    return [_record(row) for row in rows]


def _named(tenant: str, name: str) -> ColumnElement[bool]:
    return (callers.c.tenant == tenant) & (callers.c.name == name)


def _caller(row: Row[tuple[object, ...]]) -> Caller:
    return Caller(row.id, row.tenant, row.name, frozenset(row.scopes.split()))


def _record(row: Row[tuple[object, ...]]) -> CallerRecord:
    scopes = frozenset(row.scopes.split())
    return CallerRecord(row.id, row.tenant, row.name, scopes, row.created_at, row.expires_at, row.revoked_at)


def _hash(token: str) -> bytes:
    # A token has 256 random bits, so a plain hash can not be searched.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
