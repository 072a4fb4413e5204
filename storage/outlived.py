"""Outlived: versions and events that have been kept long enough, deleted for many users in one transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Table, delete, tuple_

from storage import users
from storage.audit import Entry
from storage.states import VersionState
from storage.tables import events, versions
from storage.transaction import Transaction

AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Outlived:
    """What of one user is to go: versions by number, events by seq."""

    user: str
    versions: tuple[int, ...] = ()
    events: tuple[int, ...] = ()


def delete_all(tx: Transaction, outlived: Sequence[Outlived]) -> int:
    """Delete these; returns how many there were. A version that became current meanwhile stays."""
    people = users.all_active(tx.connection, [each.user for each in outlived])
    here = [each for each in outlived if each.user in people]
    gone_versions = _delete(tx, versions, [(each.user, number) for each in here for number in each.versions])
    gone_events = _delete(tx, events, [(each.user, seq) for each in here for seq in each.events])
    if gone_events:
        users.recount(tx.connection, list(gone_events))
    entries = [
        Entry(people[user].tenant, "store", f"{what}.delete", user, f"{count} deleted")
        for what, gone in (("versions", gone_versions), ("events", gone_events))
        for user, count in gone.items()
    ]
    tx.audit_all(entries)
    return gone_versions.total() + gone_events.total()


def _delete(tx: Transaction, table: Table, pairs: Sequence[tuple[str, int]]) -> Counter[str]:
    """How many of the rows named by (user, number) each user lost."""
    number = table.c.version if table is versions else table.c.seq
    gone: Counter[str] = Counter()
    for start in range(0, len(pairs), AT_ONCE):
        part = pairs[start : start + AT_ONCE]
        statement = delete(table).where(tuple_(table.c.user, number).in_(part))
        if table is versions:
            statement = statement.where(table.c.state != VersionState.CURRENT)
        gone.update(tx.connection.execute(statement.returning(table.c.user)).scalars())
    return gone
