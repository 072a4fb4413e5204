"""Rows to the facts that policies decide on. Policies see digests, counts and times, never content."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from daemon.events import LabelledExample
from policies.attempts import Tries
from policies.cohort import Load
from policies.retention import Inventory, StoredEvent, StoredVersion
from policies.retention import VersionState as PolicyVersionState
from policies.selection import Candidate
from policies.trigger import Activity
from storage import ActivityRow, AdapterVersion, BasisRecord, Event, Run

CHARACTERS_PER_TOKEN = 3
"""A low guess, so that a cohort is rather too small than too large."""


def activity_of(row: ActivityRow, *, basis_ready: bool) -> Activity:
    """What the trigger looks at."""
    return Activity(
        consented=row.consented,
        fresh=row.fresh,
        total=max(row.total, row.fresh),
        has_open_run=row.has_open_run,
        last_run_at=row.last_run_at,
        last_event_at=row.last_event_at,
        runs_today=row.runs_today,
        basis_ready=basis_ready,
        forgotten=row.forgotten,
        dead=row.dead,
    )


def candidates_of(
    examples: Iterable[LabelledExample], learnt: Collection[int] = frozenset(), seen: Collection[str] = frozenset()
) -> list[Candidate]:
    """What selection chooses from: the current version has learnt the seqs `learnt`, the Basis the texts `seen`."""
    return [
        Candidate(each.seq, _digest(each.text), _digest(each.label), each.at, each.seq in learnt, each.text in seen)
        for each in examples
    ]


def seed_of(user: str) -> int:
    """One seed per user: what is held out stays held out from run to run."""
    return int.from_bytes(hashlib.sha256(b"selection:" + user.encode()).digest()[:4], "big")


def load_of(run: int, examples: Sequence[LabelledExample], max_tokens: int) -> Load:
    """What a run weighs in a cohort."""
    tokens = sum(min(max_tokens, 2 + (len(each.text) + len(each.label)) // CHARACTERS_PER_TOKEN) for each in examples)
    return Load(run, max(1, tokens))


def inventory_of(versions: Iterable[AdapterVersion], events: Iterable[Event]) -> Inventory:
    """What retention looks at."""
    return Inventory(
        tuple(StoredVersion(each.version, PolicyVersionState(each.state.value), each.created_at) for each in versions),
        tuple(StoredEvent(each.seq, each.received_at) for each in events),
    )


def waited_s(events: Iterable[Event], now: datetime) -> float:
    """Seconds since the newest of `events` arrived."""
    newest = max((each.received_at for each in events), default=now)
    return max(0.0, (now - newest).total_seconds())


def tries_of(claimed: Run | BasisRecord) -> Tries:
    """How a claimed run, or Basis, fared before this claim, which its `attempts` count and its `epoch` numbers."""
    errors = max(0, claimed.attempts - 1 - claimed.crashes)
    return Tries(claimed.id, claims=claimed.epoch, errors=errors, crashes=claimed.crashes)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
