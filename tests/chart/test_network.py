"""C6: who may speak to whom. Listed flows pass; the Ray cluster is the daemon's alone; nobody else is heard."""

import pytest

from tests.chart.agreement import ports, workloads
from tests.chart.flows import may_leave, may_speak
from tests.chart.scenes import scene

FILE = "everything"
STRANGER = {"app": "stranger"}
PODS = {
    "daemon": "deployments/rel-plora",
    "ingest": "deployments/rel-plora-ingest",
    "head": "/headgroup",
    "worker": "/cpu",
}
PASS = [
    ("ingest", "daemon", 8470),
    ("daemon", "head", 8000),
    ("daemon", "worker", 8000),
    ("worker", "head", 6379),
    ("head", "worker", 52365),
    ("worker", "worker", 10002),
]
STOP = [
    ("daemon", "head", 6379),
    ("daemon", "head", 8265),
    ("daemon", "head", 10001),
    ("ingest", "head", 8000),
    ("ingest", "worker", 8000),
    ("worker", "ingest", 8471),
    ("worker", "daemon", 8470),
    ("stranger", "head", 6379),
    ("stranger", "head", 8265),
    ("stranger", "head", 8000),
    ("stranger", "worker", 8000),
    ("stranger", "worker", 10002),
]


def found(objects):
    every = {name: (STRANGER, {}) for name in ["stranger"]}
    for name, wanted in PODS.items():
        _, labels, spec = next(each for each in workloads(objects) if each[0].endswith(wanted) or each[0] == wanted)
        every[name] = (labels, ports(spec))
    return every


@pytest.mark.parametrize(("source", "target", "port"), PASS)
def test_a_listed_flow_passes(source, target, port):
    objects = scene(FILE)
    pods = found(objects)
    assert may_speak(objects, pods[source][0], pods[target][0], port, pods[target][1])


@pytest.mark.parametrize(("source", "target", "port"), STOP)
def test_what_is_not_listed_is_stopped(source, target, port):
    objects = scene(FILE)
    pods = found(objects)
    assert not may_speak(objects, pods[source][0], pods[target][0], port, pods[target][1])


def test_everyone_finds_names_and_the_daemon_its_database():
    objects = scene(FILE)
    pods = found(objects)
    for name in PODS:
        assert may_leave(objects, pods[name][0], 53), name
    assert may_leave(objects, pods["daemon"][0], 5432)
    for name in ("head", "worker", "ingest"):
        assert not may_leave(objects, pods[name][0], 5432), f"{name} has no business with the database"


def test_nothing_leaves_by_a_port_that_is_not_named():
    objects = scene(FILE)
    for name, (labels, _) in found(objects).items():
        if name != "stranger":
            assert not may_leave(objects, labels, 25), name
