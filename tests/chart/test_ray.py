"""C10: the Ray cluster is one version of one image, scaled by Ray alone, and loses neither its head nor its secrets."""

import re

import pytest
import yaml

from tests.chart.engine import ROOT
from tests.chart.operator import WORKER_PORTS, environment, groups
from tests.chart.scenes import FILES, of_kind, scene

RAY = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
WITH_RAY = tuple(file for file in FILES if of_kind(scene(file), "RayService"))
RECONNECT_S = "RAY_gcs_rpc_server_reconnect_timeout_s"
SCRATCH = {"/tmp", "/dev/shm"}  # noqa: S108  (paths inside a pod)
NUMBER = re.compile(r"\b\d{4,5}\b")


def services(file, extra=None):
    return [each["spec"]["rayClusterConfig"] for each in of_kind(scene(file, extra), "RayService").values()]


def test_most_values_files_have_a_ray_cluster_and_one_has_none():
    assert len(WITH_RAY) >= 3
    assert set(WITH_RAY) < set(FILES)


@pytest.mark.parametrize("file", WITH_RAY)
def test_the_version_is_that_of_the_lock_file(file):
    assert RAY
    for cluster in services(file):
        assert cluster["rayVersion"] == RAY[1]


@pytest.mark.parametrize("file", WITH_RAY)
def test_every_pod_of_ray_and_the_daemon_run_one_image_per_kind_of_device(file):
    daemon = _release(of_kind(scene(file), "Deployment")["deployments/rel-plora"]["spec"]["template"])
    for cluster in services(file):
        for name, group in groups(cluster):
            device = "-cuda" if "gpu" in str(group["template"]["spec"]["containers"][0]["resources"]) else ""
            assert _release(group["template"]) == f"{daemon}{device}", name


@pytest.mark.parametrize("file", WITH_RAY)
def test_the_head_does_no_work_and_has_no_device(file):
    for cluster in services(file):
        started = cluster["headGroupSpec"]["rayStartParams"]
        assert (started["num-cpus"], started.get("num-gpus", "0")) == ("0", "0")
        resources = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]
        assert not any("gpu" in name for amounts in resources.values() for name in amounts)


@pytest.mark.parametrize("file", WITH_RAY)
def test_only_rays_second_autoscaler_scales(file):
    for cluster in services(file):
        for name, group in groups(cluster)[1:]:
            if cluster.get("enableInTreeAutoscaling"):
                assert cluster["autoscalerOptions"]["version"] == "v2"
                assert group["template"]["spec"]["restartPolicy"] == "Never", name
                assert "replicas" not in group, name
            else:
                assert group["minReplicas"] == group["replicas"] == group["maxReplicas"], name
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(scene(file), "ScaledObject").values()}
    assert all(name.endswith("-ingest") for name in scaled)
    assert of_kind(scene(file), "HorizontalPodAutoscaler") == {}


@pytest.mark.parametrize("file", WITH_RAY)
def test_no_fixed_port_is_among_those_that_ray_gives_its_workers(file):
    for cluster in services(file):
        for name, group in groups(cluster):
            container = group["template"]["spec"]["containers"][0]
            given = [*map(str, (group.get("rayStartParams") or {}).values()), *(str(v) for v in _values(container))]
            fixed = {int(port) for text in given for port in NUMBER.findall(text)}
            fixed |= {port["containerPort"] for port in container.get("ports", [])}
            assert not fixed & set(WORKER_PORTS), name


@pytest.mark.parametrize("file", WITH_RAY)
def test_every_pod_of_ray_waits_for_a_head_that_comes_back(file):
    for cluster in services(file):
        for name, group in groups(cluster):
            known = environment(group["template"]["spec"]["containers"][0])
            assert int(known[RECONNECT_S]) >= 60, name
            assert known["RAY_AUTH_MODE"] in ("token", "disabled"), name


@pytest.mark.parametrize("file", WITH_RAY)
def test_the_probes_of_ray_need_nothing_that_the_image_lacks(file):
    for cluster in services(file):
        for name, group in groups(cluster):
            container = group["template"]["spec"]["containers"][0]
            for probe in ("livenessProbe", "readinessProbe"):
                assert probe in container, f"{name}: the operator's own {probe} calls wget"
                assert "wget" not in str(container[probe]), name


@pytest.mark.parametrize("file", WITH_RAY)
def test_workers_find_the_code_and_the_object_store_fits_into_its_volume(file):
    for cluster in services(file):
        for name, group in groups(cluster):
            spec = group["template"]["spec"]
            assert environment(spec["containers"][0])["PYTHONPATH"] == "/app", name
            (memory,) = [v["emptyDir"] for v in spec["volumes"] if v.get("emptyDir", {}).get("medium") == "Memory"]
            store = int(group["rayStartParams"]["object-store-memory"])
            assert store < int(memory["sizeLimit"].removesuffix("Gi")) << 30, name


def test_what_serve_runs_is_told_every_argument_by_its_value():
    settings = {
        "model": "other",
        "maxTokens": 64,
        "basis": {"workers": 3},
        "otlp": {"endpoint": "http://collector:4318"},
    }
    ray = {"spoolClaim": "shared", "trainer": {"replicas": 2, "mostReplicas": 5, "cpus": 1.5, "gpuShare": 0.5}}
    (service,) = of_kind(scene("everything", {"settings": settings, "ray": ray}), "RayService").values()
    trainer, predictor = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    args = trainer["args"]
    assert (args["model"], args["max_tokens"], args["otlp"]) == ("other", 64, "http://collector:4318")
    assert (args["basis_workers"], args["spool"]) == (3, "/spool")
    assert (args["replicas"], args["most_replicas"], args["cpus"], args["gpu_share"]) == (2, 5, 1.5, 0.5)
    assert predictor["args"]["model"] == "other"
    for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        claims = [
            v["persistentVolumeClaim"] for v in group["template"]["spec"]["volumes"] if "persistentVolumeClaim" in v
        ]
        assert claims == [{"claimName": "shared"}]


@pytest.mark.parametrize("file", WITH_RAY)
def test_ray_writes_to_volumes_only(file):
    for cluster in services(file):
        for name, group in groups(cluster):
            mounts = group["template"]["spec"]["containers"][0]["volumeMounts"]
            assert {mount["mountPath"] for mount in mounts} >= SCRATCH, name


def _values(container):
    return [each.get("value", "") for each in container.get("env", [])]


def _release(template):
    """Repository and tag of the first container's image."""
    return template["spec"]["containers"][0]["image"].rsplit("/", 1)[-1].split("@")[0]
