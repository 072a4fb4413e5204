"""What waits goes together, in order, at once; what is too much is refused; who fails fails alone."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import pytest

from daemon.batching import Batcher, QueueFull

LIMIT_S = 10.0


class Work:
    """Doubles numbers, once it may; keeps what came together. A negative number fails alone, 13 the whole batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.may = threading.Semaphore(0), threading.Event()
        self.may.set()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self.begun.release()
        assert self.may.wait(LIMIT_S)
        if 13 in items:
            raise ValueError
        return [KeyError(item) if item < 0 else 2 * item for item in items]


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def batcher(work: Work) -> Iterator[Callable[..., Batcher[int, int]]]:
    made: list[Batcher[int, int]] = []

    def make(**more: object) -> Batcher[int, int]:
        made.append(Batcher(work, **more))
        return made[-1]

    yield make
    work.may.set()
    for each in made:
        each.close()


def hold(work: Work, batcher: Batcher[int, int], item: int = 0) -> Future[int]:
    """Have the model at work on one item, until `work.may` is set."""
    work.may.clear()
    future = batcher.submit(item)
    assert work.begun.acquire(timeout=LIMIT_S)
    return future


def results(futures: Sequence[Future[int]]) -> list[int]:
    return [future.result(LIMIT_S) for future in futures]


def test_who_finds_the_model_idle_is_taken_at_once_and_who_comes_meanwhile_goes_together(work, batcher):
    queue = batcher(most=8)
    first = hold(work, queue)
    others = [queue.submit(number) for number in range(1, 6)]
    work.may.set()
    assert results([first, *others]) == [0, 2, 4, 6, 8, 10]
    assert work.batches == [[0], [1, 2, 3, 4, 5]]


def test_a_batch_has_its_bound_by_weight_and_keeps_the_order(work, batcher):
    queue = batcher(most=4, weigh=lambda item: item)
    first = hold(work, queue)
    others = [queue.submit(weight) for weight in (3, 1, 2, 9, 1)]
    work.may.set()
    results([first, *others])
    assert work.batches == [[0], [3, 1], [2], [9], [1]], "an item above the bound goes alone"


def test_more_than_may_wait_is_refused_at_once(work, batcher):
    queue = batcher(depth=3)
    first = hold(work, queue)
    waiting = [queue.submit(number) for number in (1, 2, 3)]
    with pytest.raises(QueueFull) as refused:
        queue.submit(4)
    assert "3 rows wait" in str(refused.value)
    work.may.set()
    assert results([first, *waiting]) == [0, 2, 4, 6]
    assert queue.submit(4).result(LIMIT_S) == 8, "there is room again"


def test_who_fails_fails_alone_and_a_failed_batch_ends_nothing_else(work, batcher):
    queue = batcher()
    first = hold(work, queue)
    good, bad, other = queue.submit(1), queue.submit(-1), queue.submit(2)
    work.may.set()
    assert results([first, good, other]) == [0, 2, 4]
    with pytest.raises(KeyError):
        bad.result(LIMIT_S)
    with pytest.raises(ValueError):  # noqa: PT011 - of the work above
        queue.submit(13).result(LIMIT_S)
    assert queue.submit(5).result(LIMIT_S) == 10


def test_who_does_not_wait_any_more_is_left_out(work, batcher):
    queue = batcher()
    first = hold(work, queue)
    gone, stays = queue.submit(1), queue.submit(2)
    assert gone.cancel()
    work.may.set()
    assert results([first, stays]) == [0, 4]
    assert work.batches == [[0], [2]]


def test_after_closing_what_waits_is_done_and_what_comes_is_refused(work, batcher):
    queue = batcher()
    first = hold(work, queue)
    waiting = queue.submit(1)
    closing = threading.Thread(target=queue.close)
    closing.start()
    work.may.set()
    closing.join(LIMIT_S)
    assert results([first, waiting]) == [0, 2]
    with pytest.raises(QueueFull):
        queue.submit(2)


def test_many_threads_each_get_their_own_result(batcher):
    queue = batcher(most=16)
    wrong: list[int] = []

    def ask(start: int) -> None:
        for item in range(start, start + 200):
            if queue.submit(item).result(LIMIT_S) != 2 * item:
                wrong.append(item)

    threads = [threading.Thread(target=ask, args=(1_000 * number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert wrong == []
