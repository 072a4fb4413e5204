"""Bases: trained rarely, claimed like runs, and kept as blobs sealed with the tenant's own key."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, Row, insert, select

from storage import leases, tenants
from storage.datakeys import DataKey, DataKeys
from storage.errors import StaleEpoch, UnknownBasis, Unreadable
from storage.leases import BASES
from storage.records import BasisRecord
from storage.sealing import Context, Kind, digest32, seal, unseal
from storage.states import BasisState
from storage.tables import bases as table
from storage.transaction import Transaction


@dataclass(frozen=True, slots=True)
class FinishedBasis:
    fingerprint: str
    base: str
    content: bytes = field(repr=False)
    report: str


def open_one(tx: Transaction, tenant: str, name: str, labels_hint: str) -> BasisRecord:
    """Queue the training of a Basis."""
    tenants.key_of(tx.connection, tx.keys, tenant)
    values = {
        "tenant": tenant,
        "name": name,
        "labels_hint": labels_hint,
        "state": BasisState.QUEUED,
        "epoch": 0,
        "attempts": 0,
        "crashes": 0,
        "run_at": tx.now,
        "claimable_at": tx.now,
        "created_at": tx.now,
    }
    row = tx.connection.execute(insert(table).values(**values).returning(table)).one()
    tx.audit(tenant, "store", "basis.open", str(row.id), "queued")
    return to_basis(row)


def sealed(connection: Connection, keys: DataKeys, claimed: tuple[int, int], made: FinishedBasis) -> bytes:
    """The blob to store before `finish`. Raises StaleEpoch early, before a useless file is written."""
    row = connection.execute(select(table).where(table.c.id == claimed[0])).one_or_none()
    if row is None or row.epoch != claimed[1] or row.state is not BasisState.RUNNING:
        raise StaleEpoch(BASES.what, *claimed)
    key = tenants.key_of(connection, keys, row.tenant)
    return seal(key.secret, _context(key, *claimed, made.base, made.fingerprint), made.content)


def finish(tx: Transaction, claimed: tuple[int, int], made: FinishedBasis, blob: tuple[str, int]) -> BasisRecord:
    """Make the Basis READY; `blob` is the (name, size) of its stored file. Raises StaleEpoch."""
    values = {
        "fingerprint": made.fingerprint,
        "base": made.base,
        "report": made.report,
        "blob": blob[0],
        "size_bytes": blob[1],
        "error_code": None,
        "finished_at": tx.now,
        "checked_at": tx.now,
    }
    row = leases.settle(tx, BASES, claimed, BasisState.READY, values)
    tx.audit(row.tenant, row.owner or "store", "basis.finish", str(row.id), "ready")
    return to_basis(row)


def fail(tx: Transaction, claimed: tuple[int, int], error_code: str) -> None:
    values = {"error_code": error_code, "finished_at": tx.now}
    row = leases.settle(tx, BASES, claimed, BasisState.FAILED, values)
    tx.audit(row.tenant, row.owner or "store", "basis.fail", str(row.id), error_code)


def current(connection: Connection, tenant: str) -> BasisRecord | None:
    """The tenant's newest READY Basis."""
    query = select(table).where(table.c.tenant == tenant, table.c.state == BasisState.READY)
    row = connection.execute(query.order_by(table.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else to_basis(row)


def get(connection: Connection, basis: int) -> BasisRecord | None:
    row = connection.execute(select(table).where(table.c.id == basis)).one_or_none()
    return None if row is None else to_basis(row)


def listed(connection: Connection, tenant: str) -> list[BasisRecord]:
    """Newest first."""
    rows = connection.execute(select(table).where(table.c.tenant == tenant).order_by(table.c.id.desc()))
    return [to_basis(row) for row in rows]


def located(connection: Connection, keys: DataKeys, fingerprint: str, tenant: str) -> tuple[str, DataKey, Context]:
    """(blob name, key, context) of the newest READY Basis with this fingerprint. Raises UnknownBasis."""
    query = select(table).where(
        table.c.tenant == tenant, table.c.fingerprint == fingerprint, table.c.state == BasisState.READY
    )
    row = connection.execute(query.order_by(table.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        raise UnknownBasis(fingerprint)
    key = tenants.key_of(connection, keys, tenant)
    return row.blob, key, context_of(key, row)


def opened(key: DataKey, context: Context, content: bytes, fingerprint: str) -> bytes:
    """The Basis from its blob. Raises Unreadable."""
    try:
        return unseal(key.secret, context, content)
    except Unreadable:
        raise Unreadable(f"basis {fingerprint}") from None


def blobs(connection: Connection) -> set[str]:
    """Every blob that a row names."""
    return set(connection.execute(select(table.c.blob).where(table.c.blob.is_not(None))).scalars())


def to_basis(row: Row[tuple[object, ...]]) -> BasisRecord:
    return BasisRecord(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        labels_hint=row.labels_hint,
        state=row.state,
        epoch=row.epoch,
        attempts=row.attempts,
        crashes=row.crashes,
        run_at=row.run_at,
        lease_until=leases.lease_until(row),
        owner=row.owner,
        error_code=row.error_code,
        fingerprint=row.fingerprint,
        base=row.base,
        report=row.report,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def context_of(key: DataKey, row: Row[tuple[object, ...]]) -> Context:
    """The place of a READY Basis's blob."""
    return _context(key, row.id, row.epoch, row.base, row.fingerprint)


def _context(key: DataKey, number: int, epoch: int, base: str, fingerprint: str) -> Context:
    owner = bytes.fromhex(key.owner)
    return Context(
        Kind.BASIS,
        owner,
        owner,
        key.key_id,
        key.generation,
        run=number,
        epoch=epoch,
        base=digest32(base),
        basis=digest32(fingerprint),
    )
