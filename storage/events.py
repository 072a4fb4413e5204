"""Events: recorded once each, sealed with the user's key, and only ever read back for that user."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, literal, select, update

from storage import forgetting, runs, tenants, users
from storage.columns import START, Moment
from storage.datakeys import DataKey, DataKeys
from storage.errors import BadRecord, EventIdReused, Unreadable, UserForgotten
from storage.records import Event, NewEvent, Recorded
from storage.sealing import Context, Kind, seal_body, unseal_body
from storage.states import EventKind
from storage.tables import events as table
from storage.tables import tombstones
from storage.tables import users as user_table
from storage.transaction import Transaction

MAX_BATCH = 10_000
CODES = {EventKind.EXAMPLE: 1, EventKind.CORRECTION: 2, EventKind.CONSENT: 3}

READ = [column for column in table.c if column.name not in {"tenant", "dedup"}]

Outcome = Recorded | EventIdReused | UserForgotten


@dataclass(slots=True)
class _Person:
    """A user of the batch, and what the batch adds to them."""

    id: str
    key: DataKey
    consented: bool
    consent_at: datetime
    examples: int = 0
    trace: str | None = None
    consent_seen: bool = False
    consent_changed: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """An event with this identity, already stored (`seq`) or earlier in the batch (`place` among the new rows)."""

    user: str
    dedup: bytes
    seq: int = 0
    place: int = -1


@dataclass(frozen=True, slots=True)
class _Reused:
    """The identity of `known`, with other content."""

    known: _Known


@dataclass(slots=True)
class _Batch:
    """What the database says about everybody and everything the batch mentions, kept up to date while it is read."""

    people: dict[bytes, _Person]
    forgotten: dict[bytes, tuple[str, datetime]]
    known: dict[bytes, _Known]
    rows: list[dict[str, object]] = field(default_factory=list)


_Found = _Known | _Reused | UserForgotten


def record(tx: Transaction, tenant: str, events: Sequence[NewEvent], *, default_consent: bool) -> list[Outcome]:
    """Record a batch: an outcome for every event, in order."""
    if len(events) > MAX_BATCH:
        raise BadRecord("batch", f"at most {MAX_BATCH} events")
    tenant_key = tenants.key_of(tx.connection, tx.keys, tenant)
    lookups = [users.lookup(tenant_key, event.user) for event in events]
    identities = [tenant_key.digest16(b"event-id/1", _bytes(event.source), _bytes(event.id)) for event in events]
    batch = _load(tx, tenant, set(lookups), set(identities))
    found: list[_Found] = []
    for event, lookup, identity in zip(events, lookups, identities, strict=True):
        known = batch.known.get(identity)
        if known is not None:
            found.append(_repeated(batch, known, event, lookup))
            continue
        person = _person(tx, batch, tenant_key, event, default_consent=default_consent)
        if isinstance(person, UserForgotten):
            found.append(person)
            continue
        added = _add(tx, batch, person, event, identity)
        batch.known[identity] = added
        found.append(added)
    seqs = _insert(tx.connection, batch.rows)
    _count(tx, list(batch.people.values()))
    for person in batch.people.values():
        _note_consent(tx, tenant, person)
    # failpoint: ingest-before-commit
    return _outcomes(found, seqs)


def read(connection: Connection, keys: DataKeys, user: str) -> list[Event]:
    """Everything still kept of the user, oldest first. Raises Unreadable when a row was altered or moved."""
    rows = stored(connection, [user]).get(user)
    return unsealed(keys.get(connection, user), rows) if rows else []


def stored(connection: Connection, whom: Sequence[str]) -> dict[str, list[Row[tuple[object, ...]]]]:
    """Everything still kept of these users, each user's oldest first, as it lies in the database."""
    rows: dict[str, list[Row[tuple[object, ...]]]] = {}
    for row in connection.execute(select(*READ).where(table.c.user.in_(whom)).order_by(table.c.user, table.c.seq)):
        rows.setdefault(row.user, []).append(row)
    return rows


def unsealed(key: DataKey, rows: Sequence[Row[tuple[object, ...]]]) -> list[Event]:
    """These rows of one user. Raises Unreadable when one was altered or moved."""
    events = []
    for row in rows:
        try:
            content = unseal_body(key.secret, _context(key, row.identity, row.kind), row.body_sealed)
        except Unreadable:
            raise Unreadable(f"event {row.seq}") from None
        events.append(Event(row.seq, row.user, row.kind, row.time, row.received_at, content))
    return events


def delete_some(tx: Transaction, user: str, seqs: Sequence[int]) -> int:
    """Delete these events of the user; returns how many there were. A later delivery of one counts as new."""
    row = users.active(tx.connection, user)
    gone = tx.connection.execute(delete(table).where(table.c.user == user, table.c.seq.in_(seqs))).rowcount
    if gone:
        users.recount(tx.connection, [user])
        tx.audit(row.tenant, "store", "events.delete", user, f"{gone} deleted")
    return gone


def _load(tx: Transaction, tenant: str, lookups: set[bytes], identities: set[bytes]) -> _Batch:
    found = users.reserved(tx, tenant, lookups)
    keys = tx.keys.of(tx.connection, [row.id for row in found])
    people = {row.lookup: _Person(row.id, _opened(keys[row.id]), row.consented, row.consent_at) for row in found}
    gone = tx.connection.execute(
        select(tombstones).where(tombstones.c.tenant == tenant, tombstones.c.lookup.in_(lookups))
    )
    stored = tx.connection.execute(
        select(table.c.identity, table.c.user, table.c.dedup, table.c.seq).where(
            table.c.tenant == tenant, table.c.identity.in_(identities)
        )
    )
    return _Batch(
        people=people,
        forgotten={row.lookup: (row.user, row.forgotten_at) for row in gone},
        known={row.identity: _Known(row.user, row.dedup, seq=row.seq) for row in stored},
    )


def _opened(key: DataKey | Unreadable) -> DataKey:
    if isinstance(key, Unreadable):
        raise key
    return key


def _repeated(batch: _Batch, known: _Known, event: NewEvent, lookup: bytes) -> _Known | _Reused:
    person = batch.people.get(lookup)
    if person is not None and person.id == known.user and known.dedup == _dedup(person.key, event):
        return known
    return _Reused(known)


def _person(
    tx: Transaction, batch: _Batch, tenant_key: DataKey, event: NewEvent, *, default_consent: bool
) -> _Person | UserForgotten:
    """Who the event is about; made if new. A tombstone yields only to a consent given after it was set."""
    lookup = users.lookup(tenant_key, event.user)
    if lookup in batch.people:
        return batch.people[lookup]
    if lookup in batch.forgotten:
        user, at = batch.forgotten[lookup]
        # Without a time, or with an older one, it may be a late duplicate of a consent from before.
        if not (event.consent and event.time is not None and event.time > at):
            return UserForgotten(user)
        forgetting.release(tx, tenant_key.tenant, lookup)
        del batch.forgotten[lookup]
    user = users.create(tx, tenant_key, event.user, default_consent)
    key = tx.keys.get(tx.connection, user)
    batch.people[lookup] = _Person(user, key, default_consent, START)
    return batch.people[lookup]


def _add(tx: Transaction, batch: _Batch, person: _Person, event: NewEvent, identity: bytes) -> _Known:
    dedup = _dedup(person.key, event)
    batch.rows.append(
        {
            "tenant": person.key.tenant,
            "user": person.id,
            "identity": identity,
            "dedup": dedup,
            "kind": event.kind,
            "time": event.time,
            "received_at": tx.now,
            "body_sealed": seal_body(person.key.secret, _context(person.key, identity, event.kind), event.content),
        }
    )
    if event.kind in users.TEACHES:
        person.examples += 1
        person.trace = event.trace
    elif event.consent is not None:
        at = min(event.time or tx.now, tx.now)  # a host whose clock is ahead must not freeze its users' consent
        if at >= person.consent_at:
            person.consent_seen = True
            person.consent_changed |= event.consent != person.consented
            person.consented, person.consent_at = event.consent, at
    return _Known(person.id, dedup, place=len(batch.rows) - 1)


def _insert(connection: Connection, rows: list[dict[str, object]]) -> list[int]:
    if not rows:
        return []
    statement = insert(table).returning(table.c.seq, sort_by_parameter_order=True)
    return list(connection.execute(statement, rows).scalars())


def _count(tx: Transaction, people: Sequence[_Person]) -> None:
    """Bring the users' rows up to what the batch added."""
    more = [
        {"of_user": person.id, "more": person.examples, "traced": person.trace} for person in people if person.examples
    ]
    if more:
        counted = {
            "fresh": user_table.c.fresh + bindparam("more"),
            "total": user_table.c.total + bindparam("more"),
            "fresh_since": func.coalesce(user_table.c.fresh_since, literal(tx.now, Moment)),
            "last_event_at": tx.now,
            "trace": bindparam("traced"),
        }
        tx.connection.execute(update(user_table).where(user_table.c.id == bindparam("of_user")).values(counted), more)


def _note_consent(tx: Transaction, tenant: str, person: _Person) -> None:
    if person.consent_seen:
        mine = update(user_table).where(user_table.c.id == person.id)
        tx.connection.execute(mine.values(consented=person.consented, consent_at=person.consent_at))
    if person.consent_changed:
        tx.audit(tenant, "host", "consent.set", person.id, "granted" if person.consented else "withdrawn")
        if not person.consented:
            runs.cancel_of(tx, person.id, "consent_withdrawn")


def _outcomes(found: list[_Found], seqs: list[int]) -> list[Outcome]:
    def seq(known: _Known) -> int:
        return seqs[known.place] if known.place >= 0 else known.seq

    outcomes: list[Outcome] = []
    first: set[int] = set()
    for each in found:
        if isinstance(each, UserForgotten):
            outcomes.append(each)
        elif isinstance(each, _Reused):
            outcomes.append(EventIdReused(seq(each.known)))
        else:
            outcomes.append(Recorded(seq(each), each.user, duplicate=each.place < 0 or each.place in first))
            first.add(each.place)
    return outcomes


def _dedup(key: DataKey, event: NewEvent) -> bytes:
    """Under the user's key, because a plain hash of a guessable text would be a fingerprint that outlives them."""
    consent = {None: b"", True: b"1", False: b"0"}[event.consent]
    return key.digest16(b"event-dedup/1", event.kind.value.encode(), consent, event.content)


def _context(key: DataKey, identity: bytes, kind: EventKind) -> Context:
    return Context(
        Kind.EVENT,
        bytes.fromhex(key.tenant),
        bytes.fromhex(key.owner),
        key.key_id,
        key.generation,
        object_id=identity,
        version=CODES[kind],
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
