"""What KubeRay's operator refuses of a RayService beyond its schema, by the release of the operator.

Facts of `ray-operator/controllers/ray/utils/validation.go` at the tags of crds/SOURCES.md: such a RayService is stored
by the API, and then never becomes a cluster.
"""

import re
from collections.abc import Iterator
from typing import Any

from tests.chart.kube.rules import Manifest

LONGEST_NAME = 47
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
REDIS = ("REDIS_PASSWORD", "RAY_REDIS_ADDRESS", "REDIS_USERNAME")
AMOUNTS = ("num-cpus", "num-gpus", "memory", "resources")
GATED = ("networkPolicy", "tlsOptions", "historyServerOptions")  # each behind a feature gate that is off by default
WORKER_PORTS = range(10_002, 20_000)  # Ray gives these to its workers: a fixed port among them stops `ray start`


def flaws(service: Manifest, kuberay: str) -> list[str]:
    """Why the operator of release `kuberay` would not make a cluster of `service`."""
    cluster = service["spec"]["rayClusterConfig"]
    found = [*_names(service), *_groups(cluster), *_tolerance(service, cluster), *_authority(cluster, kuberay)]
    if "upgradeStrategy" in cluster:
        found.append("rayClusterConfig.upgradeStrategy is refused in a RayService")
    found += [f"rayClusterConfig.{name} needs a feature gate" for name in GATED if name in cluster]
    return found


def environment(container: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container.get("env", [])}


def groups(cluster: Manifest) -> list[tuple[str, Manifest]]:
    """The head and every worker group, by name."""
    return [
        ("head", cluster["headGroupSpec"]),
        *((each["groupName"], each) for each in cluster.get("workerGroupSpecs", [])),
    ]


def _names(service: Manifest) -> Iterator[str]:
    name = service["metadata"]["name"]
    if len(name) > LONGEST_NAME or not LABEL.fullmatch(name):
        yield f"{name} is no name of a RayService: at most {LONGEST_NAME} characters, a letter first"
    if service["spec"]["rayClusterConfig"]["headGroupSpec"].get("headService", {}).get("metadata", {}).get("name"):
        yield "headService has a name"


def _groups(cluster: Manifest) -> Iterator[str]:
    is_scaled = cluster.get("enableInTreeAutoscaling", False)
    is_second = cluster.get("autoscalerOptions", {}).get("version") == "v2"
    for name, group in groups(cluster):
        started = group.get("rayStartParams") or {}
        if group.get("resources") and any(each in started for each in AMOUNTS):
            yield f"{name}: resources are given twice"
        if "labels" in started:
            yield f"{name}: rayStartParams has labels"
        if is_scaled and is_second and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: autoscaler v2 needs restartPolicy Never"
        if name == "head":
            continue
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if not is_scaled and (least is None or most is None):
            yield f"{name}: minReplicas and maxReplicas are needed without autoscaling"
        if least is not None and most is not None and not 0 <= least <= most:
            yield f"{name}: minReplicas {least} is above maxReplicas {most}"
        if "idleTimeoutSeconds" in group and not (is_scaled and is_second):
            yield f"{name}: idleTimeoutSeconds needs autoscaler v2"


def _tolerance(service: Manifest, cluster: Manifest) -> Iterator[str]:
    options = cluster.get("gcsFaultToleranceOptions")
    head = cluster["headGroupSpec"]
    known = environment(head["template"]["spec"]["containers"][0])
    yield from (f"the head has {name}: gcsFaultToleranceOptions carries it" for name in REDIS if name in known)
    started = head.get("rayStartParams") or {}
    yield from (f"the head starts with {name}" for name in ("redis-password", "redis-username") if name in started)
    if options is None:
        return
    if any(name.startswith(("ray.io/ft-enabled", "ray.io/external-storage")) for name in _annotations(service)):
        yield "fault tolerance is asked for by annotation too"
    if options.get("backend") == "rocksdb":
        for name in ("redisAddress", "redisUsername", "redisPassword", "externalStorageNamespace"):
            if name in options:
                yield f"gcsFaultToleranceOptions.{name} belongs to redis"
    elif "storage" in options:
        yield "gcsFaultToleranceOptions.storage belongs to rocksdb"


def _authority(cluster: Manifest, kuberay: str) -> Iterator[str]:
    """The operator itself calls the dashboard: with a token only where it knows one."""
    options = cluster.get("authOptions", {})
    if options.get("mode") == "token" and tuple(map(int, cluster.get("rayVersion", "0.0").split(".")[:2])) < (2, 52):
        yield "token authentication needs rayVersion 2.52 or newer"
    for name, group in groups(cluster):
        known = environment(group["template"]["spec"]["containers"][0])
        if known.get("RAY_AUTH_MODE") == "token" and options.get("mode") != "token":
            yield f"{name}: RAY_AUTH_MODE is token, but the operator of KubeRay {kuberay} would call without one"
        own = known.get("RAY_AUTH_TOKEN")
        secret = options.get("secretName")
        if own and (not secret or own["secretKeyRef"] != {"name": secret, "key": "auth_token"}):
            yield f"{name}: RAY_AUTH_TOKEN is not the operator's own"


def _annotations(service: Manifest) -> Iterator[str]:
    yield from service["metadata"].get("annotations", {})
