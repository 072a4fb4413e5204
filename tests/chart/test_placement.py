"""C8: every kind of pod can be placed, sized and named to the cluster on its own; and every value of it arrives."""

import pytest

from tests.chart.agreement import workloads
from tests.chart.scenes import of_kind, scene

FILE = "everything"
PLACED = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "only", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                                   "labelSelector": {"matchLabels": {"a": "b"}}}],
    "priorityClassName": "high",
    "runtimeClassName": "gvisor",
    "podAnnotations": {"example.org/note": "kept"},
    "podLabels": {"example.org/team": "kept"},
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "extraEnv": [{"name": "MORE", "value": "1"}],
}  # fmt: skip
SIZE = {"requests": {"cpu": "123m", "memory": "1234Mi"}, "limits": {"memory": "1235Mi"}}
COMPONENTS = {  # values path: where its pods are
    "daemon": "deployments/rel-plora",
    "migrations": "jobs/rel-plora-migration",
    "ingest": "deployments/rel-plora-ingest",
    "ray.head": "rayservices/rel-plora/headgroup",
    "ray.cpuWorkers": "rayservices/rel-plora/cpu",
    "ray.gpuWorkers": "rayservices/rel-plora/gpu",
}
ACCOUNTS = {
    "daemon.serviceAccount": "daemon",
    "migrations.serviceAccount": "migrations",
    "ingest.serviceAccount": "ingest",
    "ray.head.serviceAccount": "ray.head",
    "ray.workerServiceAccount": "ray.cpuWorkers",
}


def at(path, value):
    for step in reversed(path.split(".")):
        value = {step: value}
    return value


def pods_of(objects, component):
    wanted = COMPONENTS[component]
    found = [(place, labels, spec) for place, labels, spec in workloads(objects) if place == wanted]
    assert found, f"no pod of {component} among {[place for place, _, _ in workloads(objects)]}"
    return found


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_pod_goes_where_its_values_say(component):
    objects = scene(FILE, at(component, {**PLACED, "resources": SIZE}))
    for place, labels, spec in pods_of(objects, component):
        container = spec["containers"][0]
        for name in ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"):
            assert spec[name] == PLACED[name], f"{place}: {name}"
        assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "gvisor"), place
        assert labels["example.org/team"] == "kept", place
        assert PLACED["extraVolumes"][0] in spec["volumes"], place
        assert PLACED["extraVolumeMounts"][0] in container["volumeMounts"], place
        assert PLACED["extraEnv"][0] in container["env"], place
        for kind, amounts in SIZE.items():
            assert amounts.items() <= container["resources"][kind].items(), place


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_one_pod_is_told_no_other_hears(component):
    objects = scene(FILE, at(component, PLACED))
    moved = {place for place, _, spec in workloads(objects) if spec.get("priorityClassName") == "high"}
    assert moved == {place for place, _, _ in pods_of(objects, component)}


@pytest.mark.parametrize("path", ACCOUNTS)
def test_each_component_is_somebody_of_its_own(path):
    objects = scene(FILE, at(path, {"annotations": {"cloud/role": "r"}, "labels": {"own": "l"}, "name": "somebody"}))
    account = objects["serviceaccounts/somebody"]["metadata"]
    assert account["annotations"]["cloud/role"] == "r"
    assert account["labels"]["own"] == "l"
    assert all(spec["serviceAccountName"] == "somebody" for _, _, spec in pods_of(objects, ACCOUNTS[path]))
    others = [s["serviceAccountName"] for c in COMPONENTS for _, _, s in pods_of(objects, c)]
    assert len(set(others)) == len(ACCOUNTS)


def test_gpu_workers_ask_for_their_devices():
    extra = {"ray": {"gpuWorkers": {"enabled": True, "gpus": 2, "gpuResource": "amd.com/gpu"}}}
    for _, _, spec in pods_of(scene(FILE, extra), "ray.gpuWorkers"):
        assert int(spec["containers"][0]["resources"]["limits"]["amd.com/gpu"]) == 2


def test_a_cpu_only_cluster_asks_for_no_device_at_all():
    for _, _, spec in workloads(scene("cpu-only")):
        assert "gpu" not in str([each["resources"] for each in spec["containers"]])


def test_common_labels_are_on_every_object():
    objects = scene(FILE, {"commonLabels": {"cost": "research"}})
    bare = {place for place, each in objects.items() if each["metadata"]["labels"].get("cost") != "research"}
    assert bare == {"configmaps/rel-note"}, "an extra object says all of itself"


def test_more_objects_are_rendered_with_their_templates():
    more = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "{{ .Release.Name }}-more"},
        "data": {"a": "b"},
    }
    assert "configmaps/rel-more" in of_kind(scene(FILE, {"extraObjects": [more]}), "ConfigMap")
