"""Long: trainers, machines and frozen machines of a Ray cluster go away, and every run is still done once, and soon."""

import secrets
import time

import pytest

from tests.faults.figures import record
from tests.faults.killing import until
from tests.faults.ray_cluster import TUNED
from tests.faults.ray_world import World, freeze, kill, thaw, world
from tests.faults.real_daemon import LIMIT_S, Pulse

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

ACTOR_S, RAYLET_S = 5.0, 25.0
USERS = 8


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """Two machines with one trainer each, and Ray's own patience."""
    with world(tmp_path_factory.mktemp("nodes") / "plora", workers=2) as made:
        yield made


def test_runs_of_a_killed_trainer_are_done_by_another_within_five_seconds(two_nodes: World):
    seconds, pulse = [], Pulse(two_nodes.daemon)
    pulse.start()
    for _ in range(3):
        assert until(two_nodes.is_whole, LIMIT_S)
        whom = two_nodes.held_fit(USERS)
        first, *others = two_nodes.ray.replicas()
        begun = time.monotonic()
        kill([first])
        thaw(others)
        seconds.append(two_nodes.seconds_until_judged(whom, begun))
    ended = pulse.end()
    record("O4.actor", 0, full=True, kills=len(seconds), resumed_max_s=max(seconds), **ended)
    assert not two_nodes.people.judged_wrongly()
    assert not ended["failed"]
    assert max(seconds) <= ACTOR_S


def test_runs_on_a_machine_that_dies_are_done_on_another_within_twenty_five_seconds(two_nodes: World):
    assert until(two_nodes.is_whole, LIMIT_S)
    dying = next(node for node in two_nodes.ray.workers if two_nodes.ray.replicas(node))
    whom, pulse = two_nodes.held_fit(USERS), Pulse(two_nodes.daemon)
    pulse.start()
    begun = time.monotonic()
    kill(dying.pids(b"raylet/raylet"))
    thaw(two_nodes.ray.replicas())
    seconds = two_nodes.seconds_until_judged(whom, begun)
    dying.end()
    two_nodes.ray.workers.remove(dying)
    assert until(two_nodes.is_whole, LIMIT_S), "Serve has not started its trainer on the machine that is left"
    whole_s = round(time.monotonic() - begun, 2)
    ended = pulse.end()
    record("O4.raylet", 0, full=True, resumed_s=seconds, whole_again_s=whole_s, **ended)
    assert not two_nodes.people.judged_wrongly()
    assert not ended["failed"]
    assert seconds <= RAYLET_S


def test_a_trainer_on_a_frozen_machine_goes_on_and_changes_nothing(tmp_path):
    """Ray declares the machine dead, while its trainer still works on what a replacement does as well."""
    with world(tmp_path / "plora", replicas=1, system=TUNED) as tuned:
        [frozen] = tuned.ray.workers
        [zombie] = tuned.ray.replicas()
        whom = tuned.held_fit(USERS)
        begun = time.monotonic()
        tuned.ray.add_worker()
        freeze(frozen.pids(b"raylet/raylet"))
        seconds = tuned.seconds_until_judged(whom, begun)
        thaw([zombie])
        assert tuned.ray.replicas(frozen) == [zombie], "Ray has killed what it could not reach"
        more = tuned.people.newcomers(USERS)
        tuned.seconds_until_judged(more, begun)
        record("O4.frozen", 0, full=True, replaced_s=seconds, zombie_lives=True)
        assert not tuned.people.judged_wrongly()
        assert tuned.daemon.metric("plora_runs_total") >= 2 * USERS


def test_a_single_trainer_that_is_killed_is_replaced(tmp_path):
    seed = secrets.randbits(32)
    with world(tmp_path / "plora", replicas=1) as single:
        seconds = []
        for _ in range(3):
            assert until(single.is_whole, LIMIT_S)
            whom = single.held_fit(USERS)
            begun = time.monotonic()
            kill(single.ray.replicas())
            seconds.append(single.seconds_until_judged(whom, begun))
        record("O4.actor_alone", seed, full=True, kills=len(seconds), resumed_max_s=max(seconds))
        assert not single.people.judged_wrongly()
