"""C11: a drain is never blocked for ever, a change of settings reaches the pods, and a daemon has the time it needs."""

import pytest

from tests.chart.agreement import fits, workloads
from tests.chart.kube.cluster import environment
from tests.chart.scenes import FILES, of_kind, scene

PROBES = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
DAEMON = "deployments/rel-plora"


@pytest.mark.parametrize("file", FILES)
def test_no_budget_blocks_the_drain_of_a_single_pod(file):
    objects = scene(file)
    deployments = of_kind(objects, "Deployment").values()
    for place, budget in of_kind(objects, "PodDisruptionBudget").items():
        spec = budget["spec"]
        for each in deployments:
            if not fits(spec["selector"], each["spec"]["template"]["metadata"]["labels"]):
                continue
            replicas = each["spec"].get("replicas", 1)
            most = spec.get("maxUnavailable", replicas - spec.get("minAvailable", 0) if replicas > 1 else 0)
            assert most in ("100%", "50%") or most >= 1, f"{place} never lets a pod go"


@pytest.mark.parametrize("file", FILES)
def test_pods_that_only_an_operator_counts_are_guarded_by_a_number(file):
    """A RayCluster has no scale: with maxUnavailable Kubernetes would allow no drain at all."""
    objects = scene(file)
    for place, labels, _ in workloads(objects):
        if "rayservices/" in place:
            for budget in of_kind(objects, "PodDisruptionBudget").values():
                if fits(budget["spec"]["selector"], labels):
                    assert isinstance(budget["spec"]["minAvailable"], int), place


@pytest.mark.parametrize(("workers", "least"), [(1, None), (3, 2)])
def test_of_several_fixed_workers_one_may_go_at_a_time(workers, least):
    extra = {
        "ray": {
            "autoscaling": {"enabled": False},
            "cpuWorkers": {"replicas": workers},
            "gpuWorkers": {"enabled": False},
        }
    }
    extra["ray"]["trainer"] = {"gpuShare": 0}
    budgets = of_kind(scene("postgres-kuberay", extra), "PodDisruptionBudget")
    found = budgets.get("poddisruptionbudgets/rel-plora-ray-worker", {}).get("spec", {}).get("minAvailable")
    assert found == least


@pytest.mark.parametrize("file", FILES)
def test_the_daemon_has_three_probes_of_its_own(file):
    container = scene(file)[DAEMON]["spec"]["template"]["spec"]["containers"][0]
    assert {name: container[name]["httpGet"]["path"] for name in PROBES} == PROBES
    allowed = container["startupProbe"].get("failureThreshold", 3) * container["startupProbe"].get("periodSeconds", 10)
    assert allowed >= 120, "a first start downloads nothing, but may wait for its migration"


@pytest.mark.parametrize("file", FILES)
def test_a_change_of_the_settings_changes_the_pods_and_nothing_else_does(file):
    before = scene(file)[DAEMON]["spec"]["template"]
    changed = scene(file, {"settings": {"trigger": {"minFresh": 17}}})[DAEMON]["spec"]["template"]
    assert changed["metadata"]["annotations"] != before["metadata"]["annotations"]
    assert changed["spec"] == before["spec"]
    assert all(name.startswith("checksum/") for name in _differing(before, changed))


@pytest.mark.parametrize("file", FILES)
def test_a_daemon_has_longer_to_end_than_a_run_may_take_to_be_given_back(file):
    objects = scene(file)
    configs = {m["metadata"]["name"]: m["data"] for m in of_kind(objects, "ConfigMap").values()}
    for place, _, spec in workloads(objects):
        if place == DAEMON:
            lease = float(environment(objects[DAEMON], configs).get("PLORA_LEASE_S", "60"))
            assert spec["terminationGracePeriodSeconds"] > lease


@pytest.mark.parametrize("file", FILES)
def test_a_volume_that_one_node_holds_is_given_over_not_fought_for(file):
    deployment = scene(file)[DAEMON]["spec"]
    claims = [v for v in deployment["template"]["spec"]["volumes"] if "persistentVolumeClaim" in v]
    if claims:
        assert deployment["replicas"] == 1
        assert deployment["strategy"]["type"] == "Recreate"
    else:
        assert deployment["strategy"]["type"] == "RollingUpdate"


def _differing(before, after):
    first, second = (each["metadata"]["annotations"] for each in (before, after))
    return [name for name in {*first, *second} if first.get(name) != second.get(name)]
