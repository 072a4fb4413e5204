"""Long: trainers are replaced by others while events arrive, in place and by a second cluster: KubeRay does both."""

import threading
import time
from contextlib import ExitStack

import pytest

from daemon.ray_child import free_port
from tests.faults.figures import record
from tests.faults.killing import until
from tests.faults.proxy import proxy
from tests.faults.ray_cluster import cluster, config_of
from tests.faults.ray_world import World, answers, world
from tests.faults.real_daemon import LIMIT_S, Pulse

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

EVERY_S = 0.5


class Stream(threading.Thread):
    """A newcomer every half second."""

    def __init__(self, made: World) -> None:
        super().__init__(daemon=True)
        self._made, self._ending = made, threading.Event()

    def run(self) -> None:
        while not self._ending.wait(EVERY_S):
            self._made.people.newcomers(1)

    def end(self) -> None:
        self._ending.set()
        self.join()


def test_new_arguments_replace_every_trainer_while_events_arrive(tmp_path):
    with world(tmp_path / "plora") as made:
        before = set(made.ray.replicas())
        pulse, stream = Pulse(made.daemon), Stream(made)
        pulse.start()
        stream.start()
        begun = time.monotonic()
        made.deploy(recycle=400)
        assert until(lambda: made.is_whole() and not before & set(made.ray.replicas()), LIMIT_S)
        rolled_s = round(time.monotonic() - begun, 1)
        stream.end()
        assert until(made.people.have_versions, LIMIT_S)
        ended = pulse.end()
        retried = made.daemon.log.read_text().count('"retried"')
        record("O4.rolling", 0, full=True, users=len(made.people.everyone), rolled_s=rolled_s, retried=retried, **ended)
        assert not ended["failed"]
        assert not made.people.judged_wrongly()


def test_a_second_cluster_takes_over_while_events_arrive(tmp_path):
    """As with a new image: the Service is switched when the second cluster answers, and the first one ends."""
    with ExitStack() as stack:
        services = []

        def through(port: int) -> int:
            services.append(stack.enter_context(proxy(port)))
            return services[0].port

        made = stack.enter_context(world(tmp_path / "plora", replicas=1, through=through))
        pulse, stream = Pulse(made.daemon), Stream(made)
        pulse.start()
        stream.start()
        second = stack.enter_context(cluster(made.daemon.ring.transport_path, port=free_port()))
        second.start_head()
        second.add_worker()
        second.deploy(config_of(second.serve, **made.args))
        assert until(lambda: second.runs() and answers(second.url), LIMIT_S)
        begun = time.monotonic()
        services[0].lead_to(second.serve)
        made.ray.end()
        assert until(made.people.have_versions, LIMIT_S)
        stream.end()
        assert until(made.people.have_versions, LIMIT_S)
        done_s = round(time.monotonic() - begun, 1)
        ended = pulse.end()
        record("O4.second_cluster", 0, full=True, users=len(made.people.everyone), all_judged_s=done_s, **ended)
        assert not ended["failed"]
        assert not made.people.judged_wrongly()
