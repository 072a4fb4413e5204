"""Rows of users that nobody ever asks for: of the right number, size and spread, made by the database itself.

The same SQL on both: SQLite is given PostgreSQL's `md5`, `decode` and `repeat` as functions of this process. Seven of
eight users have some fresh events, too few for a run; one of a hundred has enough, but is put off.
"""

import hashlib
import sqlite3
from collections.abc import Callable

from benchmarks.store.places import START, Place

EVENTS = 2
PUT_OFF = 4_000_000_000_000_000  # in microseconds since 1970: the year 2096

_NUMBERS = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {count})"
_STATEMENTS = (
    """INSERT INTO users (id, tenant, lookup, external_id_sealed, state, consented, consent_at, fresh, total,
           fresh_since, watermark, not_before, last_event_at, last_run_at, current_version, last_version, created_at)
       {numbers} SELECT md5('u' || i), '{tenant}', decode(md5('l' || i), 'hex'),
           decode(repeat(md5('x' || i), 3), 'hex'), 'active', true, 0,
           CASE WHEN i % 100 = 0 THEN 9 ELSE i % 8 END, 10, {at}, 0,
           CASE WHEN i % 100 = 0 THEN {put_off} ELSE 0 END, {at}, {at}, 1, 1, {at} FROM s""",
    """INSERT INTO data_keys (tenant, owner, key_id, generation, wrapped)
       {numbers} SELECT '{tenant}', md5('u' || i), decode(md5('k' || i), 'hex'), 1,
           decode('0100000001' || substr(repeat(md5('w' || i), 4), 1, 120), 'hex') FROM s""",
    """INSERT INTO events (tenant, "user", identity, dedup, kind, received_at, body_sealed)
       {numbers} SELECT '{tenant}', md5('u' || i), decode(md5('i{turn}-' || i), 'hex'), decode(md5('d' || i), 'hex'),
           'example', {at}, decode(repeat(md5('b' || i), 12), 'hex') FROM s""",
    """INSERT INTO runs (tenant, "user", basis, reason, state, epoch, attempts, crashes, run_at, claimable_at,
           created_at, finished_at)
       {numbers} SELECT '{tenant}', md5('u' || i), 'ba515', 'enough_fresh', 'succeeded', 1, 1, 0, {at}, {at},
           {at}, {at} FROM s""",
    """INSERT INTO versions ("user", version, tenant, run, epoch, state, code, reason, scores, size_bytes, digest, base,
           basis, watermark_seq, created_at, adapter_sealed)
       {numbers} SELECT md5('u' || i), 1, '{tenant}', -i, 1, 'current', 'beats_generic', 'because', '{{}}', 640,
           repeat(md5('g' || i), 2), 'ba5e', 'ba515', 0, {at}, decode(repeat(md5('a' || i), 40), 'hex') FROM s""",
)


def fill(place: Place, count: int) -> None:
    """Add so many users, each with a key, events, a run and a version."""
    at = int(START.timestamp() * 1_000_000)
    facts = {"tenant": place.tenant, "at": at, "put_off": PUT_OFF, "numbers": _NUMBERS.format(count=count)}
    statements = []
    for statement in _STATEMENTS:
        turns = EVENTS if "{turn}" in statement else 1
        statements += [statement.format(turn=turn, **facts) for turn in range(turns)]
    run = _in_file if place.admin is None else _on_server
    if count:
        run(place, lambda execute: [execute(statement) for statement in statements])
    run(place, lambda execute: execute("ANALYZE" if place.admin is None else "VACUUM (ANALYZE)"))


Work = Callable[[Callable[[str], object]], object]


def _on_server(place: Place, work: Work) -> None:
    """As the role that no row-level security binds."""
    import psycopg  # noqa: PLC0415

    with psycopg.connect(str(place.admin), autocommit=True) as connection:
        work(lambda statement: connection.execute(statement.encode()))


def _in_file(place: Place, work: Work) -> None:
    """Beside the open store, which does nothing meanwhile."""
    connection = sqlite3.connect(place.url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.create_function("md5", 1, lambda text: hashlib.md5(text.encode()).hexdigest(), deterministic=True)  # noqa: S324
        connection.create_function("decode", 2, lambda text, _: bytes.fromhex(text), deterministic=True)
        connection.create_function("repeat", 2, lambda text, times: text * times, deterministic=True)
        connection.execute("BEGIN IMMEDIATE")
        work(connection.execute)
        connection.execute("COMMIT")
    finally:
        connection.close()
