"""Outcomes: what became of answers, each counted once, for the version and the arm that gave it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from sqlalchemy import Connection, delete, distinct, func, insert, select

from storage import tenants, users
from storage.errors import BadRecord
from storage.history_tables import outcomes as table
from storage.history_tables import rollouts
from storage.transaction import Transaction


class Counted(Enum):
    """What became of an outcome that was handed over."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # this answer has its outcome
    FORGOTTEN = "forgotten"  # nobody is left whose answer it was


@dataclass(frozen=True, slots=True)
class NewOutcome:
    """How good the answer of this id was, from 0 to 1. `user` is the internal id; `arm` is None outside rollouts."""

    answer: str = field(repr=False)
    user: str
    version: int
    value: float
    rollout: int | None = None
    arm: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:  # NaN is not
            raise BadRecord("an outcome's value", "a number from 0 to 1")
        if not 0 < len(self.answer) <= 256:
            raise BadRecord("an outcome's answer", "1 to 256 characters")


@dataclass(frozen=True, slots=True)
class Tally:
    """One arm: how many users and outcomes it has, and the mean of the outcomes."""

    arm: str
    users: int
    outcomes: int
    mean: float


def record(tx: Transaction, tenant: str, told: Sequence[NewOutcome]) -> list[Counted]:
    """Record outcomes; what became of each, in order."""
    key = tenants.key_of(tx.connection, tx.keys, tenant)
    people = users.all_active(tx.connection, sorted({each.user for each in told}))  # the lock keeps a second one out
    identities = [key.digest16(b"outcome/1", each.answer.encode("utf-8", "surrogatepass")) for each in told]
    mine = (table.c.tenant == tenant) & table.c.identity.in_(identities)
    known = set(tx.connection.execute(select(table.c.identity).where(mine)).scalars())
    rows, answers = [], []
    for each, identity in zip(told, identities, strict=True):
        person = people.get(each.user)
        if person is None or person.tenant != tenant:
            answers.append(Counted.FORGOTTEN)
        elif identity in known:
            answers.append(Counted.DUPLICATE)
        else:
            known.add(identity)
            rows.append(_row(tenant, identity, each, tx.now))
            answers.append(Counted.STORED)
    if rows:
        tx.connection.execute(insert(table), rows)
    return answers


def means(connection: Connection, rollout: int, first: int) -> list[tuple[str, float]]:
    """(arm, mean of the first so many outcomes) of each user who has so many, in the order in which they had them."""
    number = func.row_number().over(partition_by=table.c.user, order_by=table.c.seq).label("number")
    drawn = (table.c.rollout == rollout) & table.c.arm.is_not(None)
    told = select(table.c.user, table.c.arm, table.c.value, table.c.seq, number).where(drawn).subquery()
    query = (
        select(told.c.arm, func.avg(told.c.value).label("mean"))
        .where(told.c.number <= first)
        .group_by(told.c.user, told.c.arm)
        .having(func.count() == first)
        .order_by(func.max(told.c.seq))
    )
    return [(row.arm, row.mean) for row in connection.execute(query)]


def tallies(connection: Connection, rollout: int) -> list[Tally]:
    """By arm."""
    query = (
        select(table.c.arm, func.count(distinct(table.c.user)), func.count(), func.avg(table.c.value))
        .where(table.c.rollout == rollout, table.c.arm.is_not(None))
        .group_by(table.c.arm)
        .order_by(table.c.arm)
    )
    return [Tally(*row) for row in connection.execute(query)]


def prune(connection: Connection, before: datetime) -> int:
    """Delete those from before, but for rollouts that are open. Returns how many."""
    still = select(rollouts.c.id).where(rollouts.c.state == "open")
    old = (table.c.at < before) & (table.c.rollout.is_(None) | table.c.rollout.not_in(still))
    return connection.execute(delete(table).where(old)).rowcount


def _row(tenant: str, identity: bytes, told: NewOutcome, at: datetime) -> dict[str, object]:
    return {
        "tenant": tenant,
        "identity": identity,
        "user": told.user,
        "rollout": told.rollout,
        "arm": told.arm,
        "version": told.version,
        "value": told.value,
        "at": at,
    }
