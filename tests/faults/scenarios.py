"""Short directed histories, each of which shows one promise broken, if it is. Run in a child; the words are violations.

A history in two parts is `begin_...`, which kills itself at a failpoint, and `end_...`, which recovers and looks.
"""

import json
import os
import signal
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from storage import EventKind, NewEvent, StaleEpoch, StorageError
from tests.faults import checker, failpoints
from tests.faults.stores import START, Kept, damages

USER = "user-0"


def begin_ingest(folder: str) -> None:
    """Die in the transaction; what was told to be stored is noted outside."""
    kept = Kept(folder)
    kept.record(USER, 1)
    failpoints.arm({"ingest-before-commit": ("kill", 1)})
    _note(folder, kept.record(USER, 2))
    _note(folder, kept.record(USER, 3))


def begin_ack(folder: str) -> None:
    """Die as soon as it is told to be stored."""
    kept = Kept(folder)
    kept.record(USER, 1)
    _note(folder, kept.record(USER, 2))
    os.kill(os.getpid(), signal.SIGKILL)


def end_ingest(folder: str) -> list[str]:
    kept = Kept(folder)
    acked = [json.loads(line) for line in _notes(folder)]
    stored = len(kept.store.events(kept.internal(USER)))
    return ["lost events"] if stored < 1 + len(acked) else []


def failed_group(folder: str) -> list[str]:
    """A write that failed is no answer, and the next one is as if it had not been."""
    kept = Kept(folder)
    failpoints.arm({"ingest-before-commit": ("raise", 1)})
    found = []
    try:
        kept.record(USER, 1)
        found.append("a failed write is told to be stored")
    except (StorageError, OSError):
        pass
    again = kept.record(USER, 1)[0]
    return found + ([] if not again.duplicate else ["a failed write is there"])


def sent_again(folder: str) -> list[str]:
    """The same event twice is one; the same id with another text is neither taken nor called the same."""
    kept = Kept(folder)
    first = kept.record(USER, 1)[0]
    again = kept.record(USER, 1)[0]
    other = kept.store.record_events(kept.tenant, [kept.event(USER, 1, "another")], kept.later())[0]
    found = [] if len(kept.store.events(kept.internal(USER))) == 1 else ["events stored twice"]
    if not again.duplicate or first.duplicate:
        found.append("a duplicate is not told")
    return found + ([] if isinstance(other, Exception) else ["a reused id is taken for a duplicate"])


def fenced(folder: str) -> list[str]:
    """A worker that lost its lease to another may neither finish, nor extend, nor put back."""
    kept = Kept(folder)
    kept.record(USER, 1, 2, 3)
    old = kept.claimed(USER, lease_s=5)
    kept.later(10)
    [new] = kept.store.claim_runs("two", 1, 30, kept.now)
    found = []
    if new.epoch <= old.epoch:
        found.append("the epoch did not rise")
    if kept.store.extend_leases([(old.id, old.epoch)], 30, kept.now):
        found.append("a lost lease was extended")
    try:
        kept.store.finish_run(old.id, old.epoch, kept.outcome(USER), kept.later())
        found.append("a stale result was taken")
    except StaleEpoch:
        pass
    with suppress(StorageError):
        kept.store.finish_run(new.id, new.epoch, kept.outcome(USER), kept.later())
    return found + rows_of(kept)


def stale_decision(folder: str) -> list[str]:
    """A decision from before another daemon ended a run, or before consent was withdrawn, opens nothing."""
    kept = Kept(folder)
    kept.record(USER, 1, 2, 3)
    user = kept.internal(USER)
    seen = {user: kept.store.activity(user, kept.now).last_run_at}
    kept.finished(USER)
    found = []
    if kept.store.open_runs([(user, "basis", "due")], kept.later(), seen=seen):
        found.append("a run is opened on stale facts")
        kept.store.cancel_run(kept.store.runs()[0].id, "tests", kept.later())
    kept.record(USER, 4, 5, 6)
    seen = {user: kept.store.activity(user, kept.now).last_run_at}
    refusal = NewEvent("/host", "no", USER, EventKind.CONSENT, b"", kept.later(), consent=False)
    kept.store.record_events(kept.tenant, [refusal], kept.now)
    if kept.store.open_runs([(user, "basis", "due")], kept.later(), seen=seen):
        found.append("a run is opened without consent")
    return found


def claimed_once(folder: str) -> list[str]:
    """A run whose lease holds is nobody else's."""
    kept = Kept(folder)
    kept.record(USER, 1, 2, 3)
    kept.claimed(USER, lease_s=30)
    return ["claimed twice"] if kept.store.claim_runs("two", 1, 30, kept.later()) else []


def begin_basis(folder: str) -> None:
    """Die before the blob has its name."""
    kept = Kept(folder)
    failpoints.arm({"blob-before-rename": ("kill", 1)})
    kept.basis()


def end_look(folder: str) -> list[str]:
    kept = Kept(folder)
    return [*damages(kept), *rows_of(kept)]


def swept(folder: str) -> list[str]:
    """A sweep while a Basis is between its blob and its row."""
    kept = Kept(folder)
    kept.store.ensure_tenant("acme", kept.later())
    failpoints.arm({"basis-before-row": ("wait:0.4", 1)})
    publishing = threading.Thread(target=kept.basis)
    publishing.start()
    blobs = Path(folder) / "data" / "blobs"
    while publishing.is_alive() and not list(blobs.glob("*.blob")):
        threading.Event().wait(0.005)
    sweeping = threading.Thread(target=lambda: kept.store.sweep_blobs(kept.now))
    sweeping.start()
    publishing.join()
    sweeping.join()
    return list(damages(kept))


def forgotten(folder: str) -> list[str]:
    """Nothing revives a forgotten user: not a late duplicate, not a row from an old copy, not a run on its way."""
    kept = Kept(folder)
    kept.record(USER, 1, 2, 3)
    user = kept.internal(USER)
    run = kept.claimed(USER)
    outcome = kept.outcome(USER)
    copied = _copied(kept, user)
    kept.store.forget(kept.tenant, USER, "tests", kept.later())
    found = []
    kept.record(USER, 1, 2, 3)
    again = kept.store.user(kept.tenant, USER)
    if again is not None and again.id != user:
        found.append("a late duplicate revived the user")
    try:
        kept.store.finish_run(run.id, run.epoch, outcome, kept.later())
        found.append("a result for a forgotten user was taken")
    except StorageError:
        pass
    if kept.store.run(run.id).state.value in {"queued", "running"}:
        found.append("a run of a forgotten user is open")
    _put_back(kept, copied)
    with suppress(StorageError):
        if kept.store.events(user):
            found.append("an old copy of a forgotten user's rows opens")
    return found


def begin_rotation(folder: str) -> None:
    """Die between two batches of keys."""
    kept = Kept(folder)
    kept.record(USER, 1, 2, 3)
    kept.finished(USER)
    failpoints.arm({"rotate-before-batch": ("kill", 1)})
    kept.store.roll_epoch(kept.later())


def begin_forget(folder: str) -> None:
    """Die when the key is destroyed and older pages are still in the files."""
    kept = Kept(folder)
    kept.record(USER, 1)
    failpoints.arm({"forget-before-scrub": ("kill", 1)})
    kept.store.forget(kept.tenant, USER, "tests", kept.later())


def end_forget(folder: str) -> list[str]:
    kept = Kept(folder, at=START + timedelta(days=1))
    receipt = kept.store.forget(kept.tenant, USER, "tests", kept.later())
    scrubbed = receipt is not None and any(stage.name == "scrubbed" and stage.at for stage in receipt.stages)
    return [] if scrubbed else ["a forgetting was not completed"]


def begin_finish(folder: str) -> None:
    """Die with a version written and not committed."""
    kept = Kept(folder)
    kept.record(USER, 1, 2, 3)
    failpoints.arm({"finish-before-commit": ("kill", 1)})
    kept.finished(USER)


def begin_audit(folder: str) -> None:
    """Die where only a mutant has a point: between the rows and their audit entries."""
    kept = Kept(folder)
    kept.record(USER, 1, 2, 3)
    run, outcome = kept.claimed(USER), kept.outcome(USER)
    failpoints.arm({"between-rows-and-audit": ("kill", 1)})
    kept.store.finish_run(run.id, run.epoch, outcome, kept.later())


def end_finish(folder: str) -> list[str]:
    """The audit log and the rows tell the same."""
    kept = Kept(folder)
    kept.later(3600)
    connection = sqlite3.connect(f"file:{kept.database}?mode=ro", uri=True)
    try:
        [told] = connection.execute("SELECT count(*) FROM audit WHERE action LIKE 'version.%'").fetchone()
        [made] = connection.execute("SELECT count(*) FROM versions").fetchone()
    finally:
        connection.close()
    return [] if told == made else ["the audit log and the rows differ"]


def erased(folder: str) -> list[str]:
    """No file holds the sealed rows or the wrapped key of a forgotten user."""
    kept = Kept(folder)
    kept.record(USER, 1, 2, 3)
    user = kept.internal(USER)
    rows = _copied(kept, user)
    connection = sqlite3.connect(f"file:{kept.database}?mode=ro", uri=True)
    [wrapped] = connection.execute("SELECT wrapped FROM data_keys WHERE owner = ?", (user,)).fetchone()
    connection.close()
    kept.store.forget(kept.tenant, USER, "tests", kept.later())
    sealed = [
        wrapped,
        *(value for row in rows for value in row.values() if isinstance(value, bytes) and len(value) > 32),
    ]
    files = [path.read_bytes() for path in kept.database.parent.glob("plora.db*")]
    return ["erased bytes are in a file"] if any(each[:64] in file for each in sealed for file in files) else []


def rows_of(kept: Kept) -> list[str]:
    kept.store.close()
    connection = sqlite3.connect(kept.database)
    try:
        found = checker.violations(lambda query: connection.execute(query).fetchall(), due=1_000_000)
    finally:
        connection.close()
    return [name for name in found if name != "stuck runs"]


def _copied(kept: Kept, user: str) -> list[dict[str, object]]:
    connection = sqlite3.connect(f"file:{kept.database}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute('SELECT * FROM events WHERE "user" = ?', (user,))]
    finally:
        connection.close()


def _put_back(kept: Kept, rows: Sequence[dict[str, object]]) -> None:
    connection = sqlite3.connect(kept.database)
    try:
        for row in rows:
            names = ", ".join(f'"{name}"' for name in row)
            marks = ", ".join("?" for _ in row)
            statement = f"INSERT OR REPLACE INTO events ({names}) VALUES ({marks})"  # noqa: S608 - names of columns
            connection.execute(statement, list(row.values()))
        connection.commit()
    finally:
        connection.close()


def _note(folder: str, outcomes: Sequence[object]) -> None:
    with (Path(folder) / "acks").open("a") as file:
        file.write(json.dumps(len(outcomes)) + "\n")


def _notes(folder: str) -> list[str]:
    path = Path(folder) / "acks"
    return path.read_text().splitlines() if path.exists() else []
