"""Finishing: runs settled together, each with the version it made, in one transaction.

What is wrong with one run leaves out that run alone: first everything is looked up, locked and sealed, then only those
runs are written that still hold their claim, have an active user, and whose user's key opens.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Row, bindparam, insert, select, update

from storage import leases, runs, users
from storage.audit import Entry
from storage.datakeys import DataKey
from storage.errors import StaleEpoch, UnknownUser, Unreadable
from storage.leases import RUNS
from storage.moves import Moving
from storage.records import AdapterVersion, FinishedRun
from storage.sealing import Kind, seal
from storage.states import RunState, VersionState, sources
from storage.tables import users as user_table
from storage.tables import versions as table
from storage.transaction import Transaction
from storage.versions import GENERIC, META, context_of

Claim = tuple[int, int]
Finished = AdapterVersion | StaleEpoch | UnknownUser | Unreadable


@dataclass(frozen=True, slots=True)
class _Made:
    """A version about to be written, for the user in `row`."""

    row: Row[tuple[object, ...]]
    version: AdapterVersion
    promoted: bool
    retires: bool
    adapter: bytes = field(repr=False)
    statistics: bytes | None = field(repr=False)


def finish(tx: Transaction, outcomes: Sequence[tuple[Claim, FinishedRun]]) -> list[Finished]:
    """Settle the runs claimed as (id, epoch), write their versions, promote those that won; an answer to each."""
    made: dict[Claim, _Made] = {}
    answers: list[Finished] = []
    for claim, made_or_not in _prepared(tx, outcomes):
        if isinstance(made_or_not, _Made):
            made[claim] = made_or_not
            answers.append(made_or_not.version)
        else:
            answers.append(made_or_not)
    if made:
        settled = runs.settle_all(tx, list(made), RunState.SUCCEEDED)
        if set(settled) != set(made):
            raise StaleEpoch(RUNS.what, *next(iter(set(made) - set(settled))))
        _write(tx, list(made.values()))
        tx.audit_all([_entry(each, settled[claim].owner) for claim, each in made.items()])
    # failpoint: finish-before-commit
    return answers


def _prepared(
    tx: Transaction, outcomes: Sequence[tuple[Claim, FinishedRun]]
) -> Iterator[tuple[Claim, _Made | StaleEpoch | UnknownUser | Unreadable]]:
    claims = [claim for claim, _ in outcomes]
    people = users.all_active(tx.connection, runs.users_of(tx.connection, [run for run, _ in claims]))
    held = leases.still_held(tx, RUNS, claims)
    keys = tx.keys.of(tx.connection, list(people))
    for claim, outcome in outcomes:
        user = held.pop(claim, None)  # a second outcome of one run comes too late
        if user is None:
            yield claim, StaleEpoch(RUNS.what, *claim)
        elif user not in people:
            yield claim, UnknownUser(user)
        else:
            key = keys[user]
            yield claim, key if isinstance(key, Unreadable) else _sealed(tx, people[user], key, (claim, outcome))


def _sealed(tx: Transaction, row: Row[tuple[object, ...]], key: DataKey, finished: tuple[Claim, FinishedRun]) -> _Made:
    (run, epoch), outcome = finished
    draft = AdapterVersion(
        user=row.id,
        version=row.last_version + 1,
        run=run,
        epoch=epoch,
        state=VersionState.CURRENT if outcome.promoted else VersionState.REJECTED,
        code=outcome.code,
        reason=outcome.reason,
        scores=outcome.scores,
        size_bytes=0,
        digest="",
        base=outcome.base,
        basis=outcome.basis,
        watermark_seq=outcome.watermark_seq,
        created_at=tx.now,
    )
    adapter = seal(key.secret, context_of(key, draft), outcome.adapter)
    statistics = None
    if outcome.statistics is not None:
        statistics = seal(key.secret, context_of(key, draft, Kind.STATISTICS), outcome.statistics)
    version = replace(draft, size_bytes=len(adapter), digest=hashlib.sha256(adapter).hexdigest())
    retires = outcome.retires is not None and outcome.retires == row.current_version
    return _Made(row, version, outcome.promoted, retires, adapter, statistics)


def _write(tx: Transaction, made: Sequence[_Made]) -> None:
    """The order matters: a user has one current version at every moment."""
    moved = [each.version.user for each in made if each.promoted or each.retires]
    ceased = _digests(tx, moved)
    retired = (table.c.user.in_(moved)) & table.c.state.in_(sources(VersionState.RETIRED))
    tx.connection.execute(update(table).where(retired).values(state=VersionState.RETIRED))
    tx.connection.execute(insert(table), [_columns(each) for each in made])
    pointer = (user_table.c.id == bindparam("of_user")) & (user_table.c.current_version == bindparam("before"))
    pointed = tx.connection.execute(
        update(user_table)
        .where(pointer)
        .values(current_version=bindparam("after"), last_version=bindparam("newest"), watermark=bindparam("looked_at")),
        [_pointers(each) for each in made],
    )
    if pointed.rowcount != len(made):
        raise StaleEpoch("pointer", len(made), pointed.rowcount)
    for each in made:
        if each.promoted or each.retires:
            serves, cause = (each.version.version, "promote") if each.promoted else (GENERIC, "retire")
            tx.moved(Moving(each.row.tenant, each.version.user, serves, ceased.get(each.version.user), cause))
    users.recount(tx.connection, [each.version.user for each in made])


def _digests(tx: Transaction, whom: Sequence[str]) -> dict[str, str]:
    """Of what serves these users now."""
    query = select(table.c.user, table.c.digest).where(table.c.user.in_(whom), table.c.state == VersionState.CURRENT)
    return {row.user: row.digest for row in tx.connection.execute(query)} if whom else {}


def _columns(made: _Made) -> dict[str, object]:
    values = {column.name: getattr(made.version, column.name) for column in META}
    return values | {
        "tenant": made.row.tenant,
        "adapter_sealed": made.adapter,
        "statistics_sealed": made.statistics,
    }


def _pointers(made: _Made) -> dict[str, object]:
    before, newest = made.row.current_version, made.version.version
    return {
        "of_user": made.version.user,
        "before": before,
        "after": newest if made.promoted else GENERIC if made.retires else before,
        "newest": newest,
        "looked_at": max(made.row.watermark, made.version.watermark_seq),
    }


def _entry(made: _Made, owner: str | None) -> Entry:
    verb = "promote" if made.promoted else "reject"
    version = made.version
    outcome = f"version {version.version} {version.code}"
    if made.retires:
        outcome += f"; rolled back from {made.row.current_version}"
    return Entry(made.row.tenant, owner or "store", f"version.{verb}", version.user, outcome)
