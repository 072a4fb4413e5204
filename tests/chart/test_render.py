"""C1: what the chart renders, every Kubernetes, operator and values file of the matrix takes as it stands."""

import functools
import json

import pytest

from tests.chart import operator, strict
from tests.chart.engine import CHART, LIGHT, refusal
from tests.chart.kube.kinds import EVERY_OPERATOR
from tests.chart.scenes import FILES, cluster, of_kind, scene, values

ABSENT = {"nothing": frozenset(), "monitoring": frozenset({"monitoring"}), "ray": frozenset({"ray"})}


@functools.cache
def judged(text: str, kubernetes: str, kuberay: str) -> tuple[str, ...]:
    return tuple(strict.flaws(json.loads(text), kubernetes=kubernetes, kuberay=kuberay))


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("file", FILES)
def test_every_object_is_valid_on_every_kubernetes(file, absent):
    operators = EVERY_OPERATOR - ABSENT[absent]
    if asked := needs(file) & ABSENT[absent]:
        said = refusal(cluster(values(file), operators=operators), values(file))
        assert_says_what_to_do(said, asked)
        return
    objects = scene(file, operators=operators, chart=LIGHT if ABSENT[absent] else CHART)
    assert objects
    for kubernetes in strict.KUBERNETES:
        flaws = {place: found for place, each in objects.items() if (found := _flaws(each, kubernetes))}
        assert flaws == {}, kubernetes


@pytest.mark.parametrize("kubernetes", [strict.KUBERNETES[0], strict.KUBERNETES[-1]])
@pytest.mark.parametrize("file", FILES)
def test_the_oldest_and_the_newest_kubernetes_get_the_same_objects(file, kubernetes):
    assert _stable(scene(file, version=kubernetes)) == _stable(scene(file))


def test_no_template_asks_for_the_version_of_kubernetes():
    """So that what holds for the oldest and the newest holds for all between."""
    assert not [file for file in (CHART / "templates").rglob("*.*") if "KubeVersion" in file.read_text()]


@pytest.mark.parametrize("kuberay", strict.KUBERAY)
@pytest.mark.parametrize("file", FILES)
def test_every_ray_service_suits_its_operator(file, kuberay):
    objects = of_kind(scene(file, for_kuberay(file, kuberay)), "RayService")
    for place, service in objects.items():
        assert strict.flaws(service, kuberay=kuberay) == [], place
        assert operator.flaws(service, kuberay) == [], place


def test_a_values_file_asks_for_each_operator_and_another_for_none():
    asked = [needs(file) for file in FILES]
    assert frozenset().union(*asked) == EVERY_OPERATOR
    assert frozenset() in asked


def needs(file):
    """The operators without which the values of `file` cannot be had."""
    chosen = values(file)
    ray, ingest, metrics = (chosen.get(name, {}) for name in ("ray", "ingest", "metrics"))
    monitors = [metrics.get(name, {}).get("enabled") for name in ("serviceMonitor", "podMonitors", "rules")]
    asked = {
        "ray": ray.get("mode") == "kuberay",
        "keda": ingest.get("keda", {}).get("enabled", False),
        "monitoring": True in monitors,
    }
    return frozenset(name for name, holds in asked.items() if holds)


def for_kuberay(file, kuberay):
    """The values with which an operator of that release would use `file`."""
    version = kuberay.rpartition(".")[0]
    auth = {"existingSecret": "" if version in ("1.4", "1.5") else "ray-token"}
    tolerance = values(file).get("ray", {}).get("faultTolerance", {}).get("mode", "off")
    mode = "redis" if tolerance == "rocksdb" and version != "1.7" else tolerance
    redis = {"address": "redis:6379"}
    return {"ray": {"kuberayVersion": version, "auth": auth, "faultTolerance": {"mode": mode, "redis": redis}}}


def assert_says_what_to_do(said, asked):
    words = {"ray": "KubeRay", "keda": "KEDA", "monitoring": "Prometheus operator"}
    assert any(words[name] in said for name in asked), said
    assert "schema" not in said


def _flaws(manifest, kubernetes):
    kept = {name: value for name, value in manifest.items() if name != "status"}
    return judged(json.dumps(kept, sort_keys=True), kubernetes, strict.KUBERAY[-1])


def _stable(objects):
    kept = ("uid", "resourceVersion", "generation")
    return {p: {**e, "metadata": {k: v for k, v in e["metadata"].items() if k not in kept}} for p, e in objects.items()}
