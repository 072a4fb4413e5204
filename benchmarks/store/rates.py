"""Rates: events recorded and runs claimed and settled, through the Store."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.store.places import START, Place
from benchmarks.store.rows import Rate
from storage import FinishedRun, Run

USERS = 256
EXAMPLES = 3
CLIENTS = 16
BATCH = 64
CLAIM = 256
FLOORS = {
    "events, one client": 150.0,
    f"events, {CLIENTS} clients": 1_000.0,
    f"events, batches of {BATCH}": 2_000.0,
    "runs claimed and settled, one by one": 100.0,
    f"runs claimed, {CLAIM} at once": 2_000.0,
    f"runs claimed and settled, {CLAIM} at once": 2_000.0,
}


def measure(place: Place, seconds: float, runs: int) -> Iterator[Rate]:
    """Every rate of one database. `runs` are claimed in all for each way of claiming."""
    whom = place.people(USERS, EXAMPLES)
    yield _events(place, "events, one client", seconds, clients=1, batch=1)
    yield _events(place, f"events, {CLIENTS} clients", seconds, clients=CLIENTS, batch=1)
    yield _events(place, f"events, batches of {BATCH}", seconds, clients=1, batch=BATCH)
    yield from _claims(place, whom, runs)


def rate(database: str, what: str, count: int, seconds: float) -> Rate:
    return Rate(database, what, count / seconds, FLOORS.get(what), seconds)


def _events(place: Place, what: str, seconds: float, *, clients: int, batch: int) -> Rate:
    def send(client: int, number: int) -> int:
        users = [f"user-{(client * 7919 + number * batch + at) % USERS}" for at in range(batch)]
        events = [place.event(user, number) for user in users]
        return len(place.store.record_events(place.tenant, events, START, default_consent=True))

    done, took = together(send, clients, seconds)
    return rate(place.name, what, done, took)


def together(send: Callable[[int, int], int], clients: int, seconds: float) -> tuple[int, float]:
    """How much `send(client, number)` got done by so many threads in about so long, and how long it was."""
    counts, gate = [0] * clients, threading.Barrier(clients + 1)
    failed: list[Exception] = []

    def work(client: int) -> None:
        gate.wait()
        until, number = time.perf_counter() + seconds, 0
        try:
            while time.perf_counter() < until:
                counts[client] += send(client, number)
                number += 1
        except Exception as error:  # noqa: BLE001 - a rate of a client that gave up would be a wrong one
            failed.append(error)

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    gate.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sum(counts), time.perf_counter() - started


def _claims(place: Place, whom: Sequence[str], runs: int) -> Iterator[Rate]:
    claimed, settled, done = 0.0, 0.0, 0
    while done < runs:
        _open(place, whom)
        started = time.perf_counter()
        claims = place.store.claim_runs("bench", CLAIM, 600.0, START)
        between = time.perf_counter()
        place.store.finish_runs([(run.id, run.epoch, _outcome()) for run in claims], START)
        claimed, settled = claimed + between - started, settled + time.perf_counter() - started
        done += len(claims)
    yield rate(place.name, f"runs claimed, {CLAIM} at once", done, claimed)
    yield rate(place.name, f"runs claimed and settled, {CLAIM} at once", done, settled)
    took, done = 0.0, 0
    while done < runs // 2:
        _open(place, whom)
        started = time.perf_counter()
        while claims := place.store.claim_runs("bench", 1, 600.0, START):
            _finish(place, claims[0])
            done += 1
        took += time.perf_counter() - started
    yield rate(place.name, "runs claimed and settled, one by one", done, took)


def _open(place: Place, whom: Sequence[str]) -> None:
    place.store.open_runs([(user, "ba515" * 8, "a benchmark") for user in whom], START)


def _finish(place: Place, run: Run) -> None:
    place.store.finish_run(run.id, run.epoch, _outcome(), START)


def _outcome() -> FinishedRun:
    """A version as large as a real one, with its statistics."""
    return FinishedRun(
        b"p" * 600, True, "beats_generic", "because", '{"gain": 0.5}', "ba5e" * 16, "ba515" * 8, 0, b"s" * 4_000
    )
