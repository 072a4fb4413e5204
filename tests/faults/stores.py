"""A store in a child process: what is done to it while the disk is recorded, and what must be true of it afterwards."""

import contextlib
import ctypes
import json
import pickle
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage import DiskFailed, EventKind, FinishedRun, KeyRing, NewEvent, StorageError, Store, Unreadable
from tests.faults.disk import Disk, crashes, recorded

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
USERS = 12


class Kept:
    """A store in a folder with a clock of its own, and short words to act on it."""

    def __init__(self, folder: str | Path, *, at: datetime = START) -> None:
        self.folder, self.now = Path(folder), at
        keys = self.folder / "keys"
        self.ring = KeyRing.open(keys) if (keys / "audit.key").exists() else KeyRing.create(keys)
        self.store = Store.open(
            f"sqlite:///{self.database}", keyring=self.ring, blobs=self.folder / "data" / "blobs", now=self.now
        )
        self.tenant = self.store.ensure_tenant("acme", self.now).id

    @property
    def database(self) -> Path:
        return self.folder / "data" / "plora.db"

    def later(self, seconds: float = 1.0) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def event(self, user: str, number: object, text: str | None = None) -> NewEvent:
        told = f"{user} said {number}" if text is None else text
        return NewEvent("/host", f"{user}-{number}", user, EventKind.EXAMPLE, told.encode(), self.now)

    def record(self, user: str, *numbers: int) -> list:
        events = [self.event(user, number) for number in numbers]
        return self.store.record_events(self.tenant, events, self.later(), default_consent=True)

    def internal(self, user: str) -> str:
        return self.store.user(self.tenant, user).id

    def claimed(self, user: str, owner: str = "one", lease_s: float = 30.0):
        internal = self.internal(user)
        self.store.open_run(internal, "basis", "due", self.later())
        claimed = self.store.claim_runs(owner, 50, lease_s, self.later())  # others too, which a failed step has left
        [run] = [run for run in claimed if run.user == internal]
        return run

    def outcome(self, user: str) -> FinishedRun:
        seq = max(event.seq for event in self.store.events(self.internal(user)))
        return FinishedRun(f"adapter {user} {seq}".encode(), True, "better", "because", "{}", "base", "basis", seq)

    def finished(self, user: str) -> int:
        run = self.claimed(user)
        return self.store.finish_run(run.id, run.epoch, self.outcome(user), self.later()).version

    def basis(self, size: int = 40_000) -> str:
        self.store.open_basis(self.tenant, "main", "", self.later())
        claimed = self.store.claim_basis("one", 30, self.later())
        content = f"basis {claimed.id} ".encode() * (size // 8)
        self.store.finish_basis(claimed.id, claimed.epoch, f"print-{claimed.id}", "base", content, "{}", self.later())
        return f"print-{claimed.id}"


def new(folder: str) -> bool:
    """A store with a few users, a version and a Basis."""
    kept = Kept(folder)
    for user in range(USERS):
        kept.record(f"user-{user}", 0, 1, 2)
    kept.finished("user-0")
    kept.basis()
    kept.store.close()
    return True


def act(folder: str, journal: str, steps: int, seed: int, failing: int = 0) -> int:
    """A store's life while its disk is recorded; marks in the record tell what was acknowledged, and when.

    With `failing`, every so many syncs of a file fail. Returns how many steps failed.
    """
    kept = Kept(folder)
    Path(journal + ".disk").write_bytes(pickle.dumps(Disk(Path(folder))))
    library, draw = ctypes.CDLL(None), random.Random(seed)
    if library.record_start(folder.encode(), journal.encode()) < 0:
        raise OSError("the record can not be written")

    def mark(what: str, *values: object) -> None:
        library.record_mark(json.dumps([what, *values]).encode())

    library.record_failing(failing)
    failed = 0
    for step in range(steps):
        try:
            _step(kept, draw, step, mark)
        except (DiskFailed, OSError, ValueError):  # the last: a step before it has left its run claimed
            failed += 1
            kept = _started_again(kept, folder)
    return failed


def _started_again(kept: Kept, folder: str) -> Kept:
    """As the daemon is after a sync that failed; the disk may fail its start too."""
    if not kept.store.failed:
        return kept
    kept.store.close()
    for _ in range(20):
        with contextlib.suppress(DiskFailed, OSError):
            return Kept(folder, at=kept.now)
    raise AssertionError("it did not start in twenty tries")


def _step(kept: Kept, draw: random.Random, step: int, mark) -> None:
    user = f"user-{draw.randrange(USERS)}"
    kind = draw.random()
    if step % 20 == 10:
        mark("basis", kept.basis(draw.choice((4_000, 40_000, 200_000))))
    elif step == 25:
        kept.store.roll_epoch(kept.later())
    elif step % 30 == 29:
        gone = f"gone-{step}"
        kept.record(gone, 1)
        kept.store.forget(kept.tenant, gone, "tests", kept.later())
        mark("forgotten", gone)
    elif kind < 0.25:
        kept.record(user, -step)
        mark("event", user, f"{user} said {-step}")
        mark("version", user, kept.finished(user))
    else:
        numbers = [1000 * (step + 1) + at for at in range(draw.randint(1, 5))]
        kept.record(user, *numbers)
        for number in numbers:
            mark("event", user, f"{user} said {number}")


def replay(folder: str, journal: str, into: str, count: int, seed: int) -> dict[str, object]:
    """Recover from `count` crashes of the recorded life: how many states, and what was broken in how many."""
    disk = pickle.loads(Path(journal + ".disk").read_bytes())  # noqa: S301 - written above
    operations = recorded(Path(journal))
    broken: Counter[str] = Counter()
    for done, files in crashes(disk, operations, count, seed):
        place = Path(into) / "state"
        shutil.rmtree(place, ignore_errors=True)
        for name, content in files.items():
            _put(place / Path(name).relative_to(folder), content)
        marks = [json.loads(each.data) for each in operations[:done] if each.kind == "a"]
        broken.update(set(_recovered(place, marks)))
    syncs = sum(each.kind in "sd" for each in operations)
    return {"states": count, "broken": dict(broken), "operations": len(operations), "syncs": syncs}


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)


def _recovered(place: Path, marks: Sequence[Sequence[object]]) -> Iterable[str]:
    try:
        kept = Kept(place, at=START + timedelta(days=1))
    except (StorageError, OSError, sqlite3.Error) as problem:
        return [f"does not open: {type(problem).__name__}"]
    try:
        return [*_unkept(kept, marks), *damages(kept)]
    finally:
        kept.store.close()


def _unkept(kept: Kept, marks: Sequence[Sequence[object]]) -> Iterable[str]:
    """What was acknowledged and is not there."""
    told: dict[str, set[str]] = {}
    for what, *values in marks:
        if what == "event":
            told.setdefault(values[0], set()).add(values[1])
        elif what == "version" and kept.store.adapter(kept.internal(values[0]), values[1]) is None:
            yield "lost version"
        elif what == "basis" and not any(each.fingerprint == values[0] for each in kept.store.bases(kept.tenant)):
            yield "lost basis"
        elif what == "forgotten" and kept.store.events(kept.internal(values[0])):
            yield "forgotten user is back"
    for user, texts in told.items():
        person = kept.store.user(kept.tenant, user)
        if person is None or texts - {event.content.decode() for event in kept.store.events(person.id)}:
            yield "lost events"


def damages(kept: Kept) -> Iterable[str]:
    """What does not open or does not add up."""
    for person in kept.store.users(kept.tenant, 500):
        for version in kept.store.versions(person.id):
            try:
                kept.store.adapter(person.id, version.version)
            except Unreadable:
                yield "unreadable version"
    for basis in kept.store.bases(kept.tenant):
        try:
            if basis.fingerprint is not None:
                kept.store.basis_content(basis.fingerprint, kept.tenant)
        except StorageError:
            yield "unreadable basis"
    if not kept.store.verify_audit().ok:
        yield "broken audit chain"
    connection = sqlite3.connect(f"file:{kept.database}?mode=ro", uri=True)
    try:
        if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            yield "integrity_check"
    finally:
        connection.close()


def sums(values: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in values:
        total.update(each)
    return dict(total)
