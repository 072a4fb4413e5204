"""Bytes that users, events and versions take in each database, measured by filling one."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.store.places import START, Place, postgres, server, sqlite
from storage import FinishedRun

USERS, EVENTS = 2_000, 8
ADAPTER_BYTES, STATISTICS_BYTES = 168, 796  # docs/performance.json: /bytes


@dataclass(frozen=True, slots=True)
class Size:
    """What one more of something adds to a database, in bytes; with its indexes, its audit entry and its slack."""

    database: str
    what: str
    size_bytes: float


def measure() -> Iterator[Size]:
    """Of both databases."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plora-bench-")))
        admin = stack.enter_context(server(folder))
        yield from _fill(stack.enter_context(sqlite()))
        yield from _fill(stack.enter_context(postgres(admin)))


def _fill(place: Place) -> Iterator[Size]:
    empty = _bytes(place)
    ids = place.people(USERS, 1)
    one = _bytes(place)
    for user in range(USERS):
        events = [place.event(f"user-{user}", number) for number in range(1, EVENTS)]
        place.store.record_events(place.tenant, events, START, default_consent=True)
    many = _bytes(place)
    event = (many - one) / (USERS * (EVENTS - 1))
    yield Size(place.name, "event", event)
    yield Size(place.name, "user", (one - empty) / USERS - event)
    _finish(place, ids)
    yield Size(place.name, "run and version", (_bytes(place) - many) / USERS)


def _finish(place: Place, ids: list[str]) -> None:
    store = place.store
    store.open_basis(place.tenant, "main", "", START)
    basis = store.claim_basis("bench", 600, START)
    if basis is None:
        raise RuntimeError("the basis that was just opened can not be claimed")
    store.finish_basis(basis.id, basis.epoch, "ba515" * 8, "ba5e" * 16, b"content", "{}", START)
    made = FinishedRun(
        b"p" * ADAPTER_BYTES,
        True,
        "beats_generic",
        "because",
        "{}",
        "ba5e" * 16,
        "ba515" * 8,
        0,
        b"s" * STATISTICS_BYTES,
    )
    for first in range(0, len(ids), 200):
        share = ids[first : first + 200]
        store.open_runs([(user, "ba515" * 8, "8 fresh examples") for user in share], START)
        claims = store.claim_runs("bench", len(share), 600, START)
        store.finish_runs([(run.id, run.epoch, made) for run in claims], START)


def _bytes(place: Place) -> int:
    return place.store.health(START).database_bytes
