"""Long: the head of a Ray cluster is away for half a minute, or for good; the daemon takes events and loses nothing."""

import threading
import time

import pytest

from tests.faults.figures import record
from tests.faults.killing import until
from tests.faults.ray_world import World, answers, redis, world
from tests.faults.real_daemon import LIMIT_S, Pulse

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

AWAY_S, EVERY_S = 30.0, 3.0
STALL_S = 0.1
"""Longer only where the loop was held up before as well, by whatever else this machine does."""

USERS = 4
STALL = "plora_loop_stall_seconds"


def away(made: World, seconds: float) -> float:
    """Newcomers come all the time; the longest pause of the event loop meanwhile, as the daemon tells it."""
    pause, stalls = threading.Event(), []
    for _ in range(int(seconds / EVERY_S)):
        made.people.newcomers(USERS)
        stalls.append(made.daemon.metric(STALL))
        pause.wait(EVERY_S)
    return max(stalls)


def test_half_a_minute_without_a_head_costs_no_event_and_no_run(tmp_path):
    with redis() as address, world(tmp_path / "plora", redis=address) as made:
        pulse = Pulse(made.daemon)
        pulse.start()
        before_s, gone = made.daemon.metric(STALL), time.monotonic()
        made.ray.head.end()
        stall_s = away(made, AWAY_S)
        done = sum(bool(made.people.host.user(one.id)["versions"]) for one in made.people.everyone)
        made.ray.start_head()
        assert until(made.is_whole, LIMIT_S)
        made.people.newcomers(USERS)
        whole_s = round(time.monotonic() - gone, 1)
        assert until(made.people.have_versions, LIMIT_S)
        ended = pulse.end()
        restarts = made.daemon.process.poll()
        record(
            "O4.head_30s", 0, full=True, users=len(made.people.everyone), judged_meanwhile=done, whole_again_s=whole_s,
            loop_stall_max_s=stall_s, loop_stall_before_s=before_s, **ended,
        )  # fmt: skip
        assert restarts is None
        assert not ended["failed"]
        assert not made.people.judged_wrongly()
        assert stall_s <= STALL_S


def test_a_head_that_is_lost_for_good_is_replaced_by_another_cluster(tmp_path):
    """Without Redis nothing of Ray outlives its head: KubeRay then makes all of it anew."""
    with world(tmp_path / "plora", replicas=1) as made:
        pulse = Pulse(made.daemon)
        pulse.start()
        made.held_fit(USERS)
        before_s, gone = made.daemon.metric(STALL), time.monotonic()
        made.ray.end()
        assert not answers(made.ray.url)
        stall_s = away(made, 4 * EVERY_S)
        made.ray.start_head()
        made.ray.add_worker()
        made.deploy()
        assert until(made.is_whole, LIMIT_S)
        whole_s = round(time.monotonic() - gone, 1)
        assert until(made.people.have_versions, LIMIT_S)
        done_s = round(time.monotonic() - gone, 1)
        ended = pulse.end()
        record(
            "O4.head_lost", 0, full=True, users=len(made.people.everyone), whole_again_s=whole_s, all_judged_s=done_s,
            loop_stall_max_s=stall_s, loop_stall_before_s=before_s, **ended,
        )  # fmt: skip
        assert not ended["failed"]
        assert not made.people.judged_wrongly()
        assert stall_s <= STALL_S
