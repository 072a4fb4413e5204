"""What must be true of the rows after any faults, read with plain SQL and not by the code under test."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Ask = Callable[[str], Sequence[tuple]]

COUNTS = {
    "version gaps": (
        'SELECT count(*) FROM (SELECT "user" FROM versions GROUP BY "user" HAVING max(version) <> count(*)) x'
    ),
    "runs with two versions": "SELECT count(*) FROM (SELECT run FROM versions GROUP BY run HAVING count(*) > 1) x",
    "succeeded runs without a version": (
        "SELECT count(*) FROM runs WHERE state = 'succeeded' AND id NOT IN (SELECT run FROM versions) "
        "AND \"user\" IN (SELECT id FROM users WHERE state = 'active')"
    ),
    "versions without a succeeded run": (
        "SELECT count(*) FROM versions WHERE run NOT IN (SELECT id FROM runs WHERE state = 'succeeded')"
    ),
    "versions of another epoch than their run's last": (
        "SELECT count(*) FROM versions JOIN runs ON runs.id = versions.run WHERE versions.epoch <> runs.epoch"
    ),
    "watermarks that do not rise with the version": (
        'SELECT count(*) FROM versions a JOIN versions b ON a."user" = b."user" AND b.version = a.version + 1 '
        "WHERE b.watermark_seq <= a.watermark_seq"
    ),
    "users whose pointer is not their current version": (
        "SELECT count(*) FROM users WHERE state = 'active' AND current_version <> coalesce("
        "(SELECT version FROM versions WHERE versions.\"user\" = users.id AND versions.state = 'current'), 0)"
    ),
    "users whose last version is not their newest": (
        "SELECT count(*) FROM users WHERE state = 'active' AND last_version <> "
        'coalesce((SELECT max(version) FROM versions WHERE versions."user" = users.id), 0)'
    ),
    "users with a wrong count of events": (
        "SELECT count(*) FROM users WHERE state = 'active' AND total <> "
        "(SELECT count(*) FROM events WHERE events.\"user\" = users.id AND kind <> 'consent')"
    ),
    "users with a wrong count of fresh events": (
        "SELECT count(*) FROM users WHERE state = 'active' AND fresh <> (SELECT count(*) FROM events "
        "WHERE events.\"user\" = users.id AND kind <> 'consent' AND seq > users.watermark)"
    ),
    "identities stored twice": (
        "SELECT count(*) FROM (SELECT identity FROM events GROUP BY tenant, identity HAVING count(*) > 1) x"
    ),
    "stuck runs": "SELECT count(*) FROM runs WHERE state IN ('queued', 'running')",
    "given up runs": "SELECT count(*) FROM runs WHERE state = 'failed'",
    "users that nobody trains": "SELECT count(*) FROM users WHERE state = 'active' AND fresh >= {due} AND consented",
    "open runs that are none": (
        "SELECT count(*) FROM users WHERE open_run IS NOT NULL AND open_run NOT IN "
        "(SELECT id FROM runs WHERE state IN ('queued', 'running'))"
    ),
}


def violations(ask: Ask, due: int) -> dict[str, int]:
    """The broken invariants of the rows, and how often. `due` fresh events make a user due."""
    found = {name: int(ask(query.format(due=due))[0][0]) for name, query in COUNTS.items()}
    return {name: count for name, count in found.items() if count}


def in_file(database: Path, due: int) -> dict[str, int]:
    """Of a database file that nobody has open."""
    connection = sqlite3.connect(database)
    try:
        broken = violations(lambda query: connection.execute(query).fetchall(), due)
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
        foreign = len(connection.execute("PRAGMA foreign_key_check").fetchall())
    finally:
        connection.close()
    return (
        broken
        | ({} if verdict == "ok" else {f"integrity_check: {verdict[:80]}": 1})
        | ({"foreign keys to nowhere": foreign} if foreign else {})
    )


def against_acks(acked: Mapping[str, Mapping[str, str]], events: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The acknowledged events, by user and id, against the contents that the store gives back for each user."""
    lost = repeated = 0
    for user, told in acked.items():
        stored = [json.dumps(json.loads(content), sort_keys=True) for content in events.get(user, ())]
        lost += len(set(told.values()) - set(stored))
        repeated += len(stored) - len(set(stored))
    return {name: count for name, count in (("lost events", lost), ("events stored twice", repeated)) if count}
