"""Protocol mutants: one line of thought taken out of the code, and the history that has to notice.

A mutant whose source is not there exactly once fails the build: the code moved on, and the mutant has to follow it.
"""

from dataclasses import dataclass

from tests.faults.failpoints import Change

POWER = "power loss"


@dataclass(frozen=True, slots=True)
class Mutant:
    """`shown_by`: the parts of a history, or the power loss replay; `sign`: what must be among its findings."""

    name: str
    changes: tuple[Change, ...]
    shown_by: tuple[str, ...]
    sign: str


def mutant(name: str, shown_by: tuple[str, ...], sign: str, *changes: tuple[str, str, str]) -> Mutant:
    return Mutant(name, tuple(Change(*change) for change in changes), shown_by, sign)


MUTANTS = (
    mutant(
        "acknowledged before it is committed",
        ("begin_ack", "end_ingest"),
        "lost events",
        (
            "storage/store.py",
            "        with self.within(batch.tenant)._write(batch.now) as tx:\n            return recording.record(",
            "        import threading\n"
            "        done, told = threading.Event(), []\n"
            "        def write():\n"
            "            with self.within(batch.tenant)._write(batch.now) as tx:\n"
            "                told.extend(self._record_in(tx, batch))\n"
            "                done.set()\n"
            "                threading.Event().wait(0.3)\n"
            "        threading.Thread(target=write).start()\n"
            "        done.wait()\n"
            "        return told\n\n"
            "    def _record_in(self, tx, batch):\n"
            "            return recording.record(",
        ),
    ),
    mutant(
        "a group that failed is told to be stored",
        ("failed_group",),
        "a failed write is told to be stored",
        (
            "storage/grouping.py",
            "            each.error = error\n",
            '            each.outcomes = [Recorded(0, "", duplicate=False) for _ in each.batch.events]\n',
        ),
    ),
    mutant(
        "no dedup",
        ("sent_again",),
        "events stored twice",
        (
            "storage/events.py",
            'digest16(b"event-id/1", _bytes(event.source), _bytes(event.id))',
            'digest16(b"event-id/1", __import__("os").urandom(16))',
        ),
    ),
    mutant(
        "a reused id is a duplicate",
        ("sent_again",),
        "a reused id is taken for a duplicate",
        ("storage/events.py", " and known.dedup == _dedup(person.key, event):", ":"),
    ),
    mutant(
        "the claim's epoch does not rise",
        ("fenced",),
        "the epoch did not rise",
        ("storage/leases.py", "            epoch=table.c.epoch + 1,\n", "            epoch=table.c.epoch,\n"),
    ),
    mutant(
        "a result of any epoch is taken",
        ("fenced",),
        "a stale result was taken",
        ("storage/leases.py", " & (leased.table.c.epoch == epoch)", ""),
        (
            "storage/leases.py",
            "        settled |= {(row.id, row.epoch): row for row in tx.connection.execute(statement)}\n",
            "        settled |= {(row.id, dict(claims)[row.id]): row for row in tx.connection.execute(statement)}\n",
        ),
        (
            "storage/leases.py",
            "found |= {(row.id, row.epoch): row.user for",
            "found |= {(row.id, dict(claims)[row.id]): row.user for",
        ),
    ),
    mutant(
        "a heartbeat of any epoch counts",
        ("fenced",),
        "a lost lease was extended",
        (
            "storage/leases.py",
            "            .where(held, _is(leased, leased.running))\n            .values(claimable_at",
            "            .where(table.c.id.in_([id for id, _ in pairs]), _is(leased, leased.running))\n"
            "            .values(claimable_at",
        ),
    ),
    mutant(
        "a lease that holds is claimed",
        ("claimed_once",),
        "claimed twice",
        ("storage/leases.py", ".where(OPEN, table.c.claimable_at <= tx.now)", ".where(OPEN)"),
    ),
    mutant(
        "a decision on stale facts opens a run",
        ("stale_decision",),
        "a run is opened on stale facts",
        ("storage/runs.py", " and row.last_run_at == last_run_at\n", "\n"),
    ),
    mutant(
        "a decision from before consent was withdrawn opens a run",
        ("stale_decision",),
        "a run is opened without consent",
        ("storage/runs.py", "return bool(row.consented) and row", "return row"),
    ),
    mutant(
        "the row before the blob",
        ("begin_basis", "end_look"),
        "unreadable basis",
        (
            "storage/working.py",
            "        blob = (self._blobs.keep(sealed), len(sealed))\n        with self._write(now) as tx:\n",
            "        import hashlib\n        blob = (hashlib.sha256(sealed).hexdigest(), len(sealed))\n"
            "        with self._write(now) as tx:\n            row = bases.finish(tx, claimed, made, blob)\n"
            "        self._blobs.keep(sealed)\n        return row\n        with self._write(now) as tx:\n",
        ),
    ),
    mutant(
        "a blob without fsync",
        (POWER,),
        "unreadable basis",
        ("storage/fileblobs.py", "        os.fsync(file.fileno())\n", ""),
    ),
    mutant(
        "a blob's name without fsync of its directory",
        (POWER,),
        "unreadable basis",
        (
            "storage/fileblobs.py",
            "                # failpoint: blob-before-directory-sync\n                sync_directory(self.directory)\n",
            "",
        ),
    ),
    mutant(
        "synchronous = NORMAL",
        (POWER,),
        "lost events",
        ("storage/sqlite.py", '    "synchronous": "2",', '    "synchronous": "1",'),
    ),
    mutant(
        "synchronous = OFF",
        (POWER,),
        "lost events",
        ("storage/sqlite.py", '    "synchronous": "2",', '    "synchronous": "0",'),
    ),
    mutant(
        "a sweep without grace",
        ("swept",),
        "unreadable basis",
        ("storage/fileblobs.py", "if path.stat().st_mtime < before.timestamp():", "if path.exists():"),
    ),
    mutant(
        "a forgetting without tombstone",
        ("forgotten",),
        "a late duplicate revived the user",
        ("storage/events.py", "    if lookup in batch.forgotten:\n", "    if False:\n"),
    ),
    mutant(
        "a forgetting that leaves the run open",
        ("forgotten",),
        "a run of a forgotten user is open",
        ("storage/forgetting.py", 'runs.cancel_of(tx, row.id, "user_forgotten")', "0"),
    ),
    mutant(
        "a destroyed key that is remembered serves on",
        ("forgotten",),
        "an old copy of a forgotten user's rows opens",
        ("storage/datakeys.py", "            self._known.pop(owner, None)\n", ""),
        ("storage/datakeys.py", "    if row is None or row.wrapped == DESTROYED:\n        return False\n", ""),
    ),
    mutant(
        "a scrub that no restart completes",
        ("begin_forget", "end_forget"),
        "a forgetting was not completed",
        ("storage/forgetting.py", "values(scrubbed_at=tx.now)", "values(scrubbed_at=None)"),
    ),
    mutant(
        "a scrub that leaves the WAL",
        ("erased",),
        "erased bytes are in a file",
        ("storage/sqlite.py", '"PRAGMA wal_checkpoint(TRUNCATE)"', '"PRAGMA wal_checkpoint(PASSIVE)"'),
    ),
    mutant(
        "secure_delete off",
        ("erased",),
        "erased bytes are in a file",
        ("storage/sqlite.py", '    "secure_delete": "1",', '    "secure_delete": "0",'),
    ),
    mutant(
        "a rotation that destroys before it rewraps",
        ("begin_rotation", "end_look"),
        "does not open",
        (
            "storage/rotating.py",
            "        after, rewrapped = 0, 0\n",
            "        for each in set(self._keys.ring.epochs()) - {epoch}:\n"
            "            self._keys.ring.destroy_epoch(each)\n"
            "        after, rewrapped = 0, 0\n",
        ),
    ),
    mutant(
        "an audit log beside the transaction",
        ("begin_audit", "end_finish"),
        "the audit log and the rows differ",
        (
            "storage/store.py",
            "            yield tx\n            tx.chain()\n",
            "            yield tx\n"
            "        # failpoint: between-rows-and-audit\n"
            "        with self._database.write(now, self._scope) as writing:\n"
            "            __import__('dataclasses').replace(tx, connection=writing.connection).chain()\n",
        ),
    ),
)
