"""Rollouts: what is current held against what was before it or against the generic model, one at a time in a tenant.

open -> promoted      everybody is served what is current
open -> cancelled     the same, and nothing was decided
open -> returning     the control won: its version is served, user after user
returning -> rolled_back
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select, update

from storage.errors import BadRecord, UnknownTenant
from storage.history_tables import moves
from storage.history_tables import rollouts as table
from storage.rollout_errors import RolloutEnded, RolloutOpen, UnknownRollout
from storage.tables import tenants
from storage.transaction import Transaction

TREATMENT = "current"
CONTROLS = ("previous", "generic")
OPEN, RETURNING = "open", "returning"
ENDS = ("promoted", "cancelled", RETURNING)


@dataclass(frozen=True, slots=True)
class NewRollout:
    """`share` of the users are served what is current, the others the `control`; `rules` are the daemon's, as text."""

    name: str
    control: str
    share: float
    rules: str

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= 128:
            raise BadRecord("a rollout's name", "1 to 128 characters")
        if self.control not in CONTROLS:
            raise BadRecord("a rollout's control", f"one of {', '.join(CONTROLS)}")
        if not 0.0 < self.share < 1.0:
            raise BadRecord("a rollout's share", "between 0 and 1, neither included")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout. `salt` draws its arms; `code` and `reason` are of its end, `ended_after` the last move before it."""

    id: int
    tenant: str
    name: str
    control: str
    share: float
    salt: str = field(repr=False)
    rules: str
    state: str
    code: str | None
    reason: str | None
    started_at: datetime
    ended_at: datetime | None
    ended_after: int | None


def start(tx: Transaction, tenant: str, wanted: NewRollout, actor: str) -> Rollout:
    """Open it. Raises RolloutOpen while another one of the tenant is open or its users are still being moved."""
    mine = select(tenants.c.id).where(tenants.c.id == tenant).with_for_update()  # two at once: one waits
    if tx.connection.execute(mine).one_or_none() is None:
        raise UnknownTenant(tenant)
    for each in unfinished(tx.connection, tenant):
        raise RolloutOpen(each.id)
    values = {
        "tenant": tenant,
        "name": wanted.name,
        "treatment": TREATMENT,
        "control": wanted.control,
        "share": wanted.share,
        "salt": secrets.token_hex(16),
        "rules": wanted.rules,
        "state": OPEN,
        "started_at": tx.now,
    }
    row = tx.connection.execute(insert(table).values(values).returning(table)).one()
    outcome = f"{wanted.share:g} current, the others {wanted.control}"
    tx.audit(tenant, actor, "rollout.start", str(row.id), outcome)
    return _rollout(row)


def end(tx: Transaction, rollout: int, state: str, why: tuple[str, str], actor: str) -> Rollout:
    """Close an open one for a (code, reason). Raises UnknownRollout, or RolloutEnded."""
    if state not in ENDS:
        raise BadRecord("a rollout's end", f"one of {', '.join(ENDS)}")
    code, reason = why
    closing = update(table).where(table.c.id == rollout, table.c.state == OPEN)
    last = select(func.coalesce(func.max(moves.c.seq), 0)).scalar_subquery()
    row = tx.connection.execute(
        closing.values(state=state, code=code, reason=reason, ended_at=tx.now, ended_after=last).returning(table)
    ).one_or_none()
    if row is None:
        found = get(tx.connection, rollout)
        if found is None:
            raise UnknownRollout(rollout)
        raise RolloutEnded(rollout, found.state)
    tx.audit(row.tenant, actor, f"rollout.{state}", str(rollout), f"{code}: {reason}"[:256])
    return _rollout(row)


def returned(tx: Transaction, rollout: int) -> None:
    """Note that everybody is served the control; again is harmless."""
    done = update(table).where(table.c.id == rollout, table.c.state == RETURNING)
    row = tx.connection.execute(done.values(state="rolled_back").returning(table.c.tenant)).one_or_none()
    if row is not None:
        tx.audit(row.tenant, "store", "rollout.rolled_back", str(rollout), "done")


def get(connection: Connection, rollout: int, tenant: str | None = None) -> Rollout | None:
    query = select(table).where(table.c.id == rollout)
    row = connection.execute(query if tenant is None else query.where(table.c.tenant == tenant)).one_or_none()
    return None if row is None else _rollout(row)


def current(connection: Connection, tenant: str) -> Rollout | None:
    """The open one of the tenant."""
    row = connection.execute(select(table).where(table.c.tenant == tenant, table.c.state == OPEN)).one_or_none()
    return None if row is None else _rollout(row)


def unfinished(connection: Connection, tenant: str | None = None) -> Sequence[Rollout]:
    """Those that are open, or whose users are still being moved; of all tenants unless one is named."""
    query = select(table).where(table.c.state.in_((OPEN, RETURNING))).order_by(table.c.id)
    rows = connection.execute(query if tenant is None else query.where(table.c.tenant == tenant))
    return [_rollout(row) for row in rows]


def listed(connection: Connection, tenant: str, limit: int) -> list[Rollout]:
    """Newest first."""
    query = select(table).where(table.c.tenant == tenant).order_by(table.c.id.desc()).limit(limit)
    return [_rollout(row) for row in connection.execute(query)]


def _rollout(row: Row[tuple[object, ...]]) -> Rollout:
    return Rollout(
        row.id,
        row.tenant,
        row.name,
        row.control,
        row.share,
        row.salt,
        row.rules,
        row.state,
        row.code,
        row.reason,
        row.started_at,
        row.ended_at,
        row.ended_after,
    )
