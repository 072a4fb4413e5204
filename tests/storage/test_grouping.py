"""Group commit: many threads, few transactions, and nobody's trouble is anybody else's."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage import BadRecord, EventIdReused, Recorded, StoreAway, StoreBusy, UnknownTenant
from storage.grouping import Batch, Grouping

CLIENTS = 16


def together(count, act):
    ready = threading.Barrier(count)

    def run(number):
        ready.wait()
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return [each.result() for each in [pool.submit(run, number) for number in range(count)]]


def test_everything_that_many_threads_record_is_there_once(world):
    events = [[world.event(f"user-{n}", f"{n} {i}") for i in range(10)] for n in range(CLIENTS)]
    answers = together(CLIENTS, lambda n: [world.record(each)[0] for each in events[n]])
    assert all(isinstance(each, Recorded) and not each.duplicate for answer in answers for each in answer)
    assert len({each.seq for answer in answers for each in answer}) == 160
    assert sum(len(world.store.events(user.id)) for user in world.store.users(world.tenant)) == 160


def test_the_same_event_from_many_threads_is_recorded_once(world):
    event = world.event("alice")
    answers = together(CLIENTS, lambda _: world.record(event)[0])
    assert sum(not each.duplicate for each in answers) == 1
    assert len({each.seq for each in answers}) == 1


def test_a_reused_id_fails_its_own_sender_only(world):
    events = [world.event("alice", f"text {n}", id="same" if n < 2 else f"id-{n}") for n in range(8)]
    answers = together(8, lambda n: world.record(events[n])[0])
    assert sum(isinstance(each, EventIdReused) for each in answers) == 1


class Gate:
    """Records batches one after another, each when it is let through; says which went together."""

    def __init__(self) -> None:
        self.seen, self.go, self.began = [], threading.Semaphore(0), threading.Semaphore(0)

    def record(self, batch: Batch) -> list:
        self.began.release()
        self.go.acquire()
        self.seen.append(len(batch.events))
        for each in batch.events:
            if isinstance(each, Exception):
                raise each
        return list(batch.events)


def gathered(gate, grouping, batches):
    """What becomes of `batches` while one transaction before them is still at work."""
    results: list[object] = [None] * len(batches)

    def add(at):
        try:
            results[at] = grouping.add(batches[at])
        except Exception as error:  # noqa: BLE001 - the answer
            results[at] = error

    first = threading.Thread(target=add, args=(0,))
    first.start()
    gate.began.acquire()
    threads = []
    for at in range(1, len(batches)):
        threads.append(threading.Thread(target=add, args=(at,)))
        threads[-1].start()
        while grouping.waiting < sum(each.is_alive() for each in threads):
            pass
    for _ in range(3 * len(batches)):
        gate.go.release()
    for each in (first, *threads):
        each.join()
    return results


def batch(*events, tenant="a", now=0):
    return Batch(tenant, False, events, now)


def test_what_gathers_meanwhile_goes_together_by_tenant():
    gate = Gate()
    batches = [batch(0), batch(1, 2), batch(3), batch(4, tenant="b"), batch(5)]
    assert gathered(gate, Grouping(gate.record, "db"), batches) == [[0], [1, 2], [3], [4], [5]]
    assert gate.seen == [1, 3, 1, 1]


def test_one_bad_batch_of_a_group_fails_alone():
    gate = Gate()
    bad = UnknownTenant("x")
    results = gathered(gate, Grouping(gate.record, "db"), [batch(0), batch(1), batch(bad), batch(2)])
    assert results == [[0], [1], bad, [2]]
    assert gate.seen == [1, 3, 1, 1, 1]


def test_a_broken_store_fails_the_whole_group_at_once_each_with_its_own_error():
    gate = Gate()
    results = gathered(gate, Grouping(gate.record, "db"), [batch(0), batch(1), batch(StoreAway("db"))])
    assert results[0] == [0]
    assert all(isinstance(each, StoreAway) for each in results[1:])
    assert results[1] is not results[2]
    assert gate.seen == [1, 2]


def test_no_more_waits_than_a_bound():
    gate = Gate()
    batches = [batch(0), batch(*range(6)), batch(*range(6)), batch(7)]
    results = gathered(gate, Grouping(gate.record, "db", most_waiting=10), batches)
    assert isinstance(results[2], StoreBusy)
    assert [results[0], results[1], results[3]] == [[0], list(range(6)), [7]]


def test_a_batch_that_is_too_large_is_refused(world):
    with pytest.raises(BadRecord):
        world.record(*[world.event("alice")] * 10_001)
