"""Pod Security Standard "restricted", and what a hardened pod has beyond it: a read-only root and its own limits."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.chart.kube.rules import Manifest, pods

VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
SHARED = ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace")
UNSAFE = ("seLinuxOptions", "sysctls", "windowsOptions")


def flaws(manifest: Manifest) -> list[str]:
    """Why a namespace that enforces "restricted", or a reader of this chart, would refuse the pods of `manifest`."""
    found = [f"{manifest['kind']}: {flaw}" for pod in pods(manifest) for flaw in _pod(pod["spec"])]
    for options in _autoscalers(manifest):
        found += [f"autoscaler: {flaw}" for flaw in _container(options.get("securityContext") or {}, {})]
        if "limits" not in options.get("resources", {}):
            found.append("autoscaler: no resource limits")
    return found


def _pod(spec: Manifest) -> Iterator[str]:
    whole = spec.get("securityContext") or {}
    yield from (f"{name} is set" for name in SHARED if spec.get(name))
    yield from (f"securityContext.{name} is set" for name in UNSAFE if name in whole)
    for volume in spec.get("volumes", []):
        if not VOLUMES & volume.keys():
            yield f"volume {volume['name']} is of a kind that restricted pods may not mount"
    if spec.get("automountServiceAccountToken") is not False and not spec.get("serviceAccountName"):
        yield "the token of the default service account is mounted"
    if spec.get("enableServiceLinks") is not False:
        yield "service links are on: the names of services would become settings"
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        yield from (
            f"{container['name']}: {flaw}" for flaw in _container(container.get("securityContext") or {}, whole)
        )
        yield from (f"{container['name']}: {flaw}" for flaw in _amounts(container))


def _amounts(container: Manifest) -> Iterator[str]:
    resources = container.get("resources", {})
    yield from (f"no request of {name}" for name in ("cpu", "memory") if name not in resources.get("requests", {}))
    if "memory" not in resources.get("limits", {}):
        yield "no limit of memory"
    yield from (f"hostPort {port['hostPort']}" for port in container.get("ports", []) if port.get("hostPort"))


def _container(own: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    merged = {**pod, **own}
    if merged.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if merged.get("runAsUser") == 0:
        yield "runs as user 0"
    if (merged.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "the seccomp profile is not RuntimeDefault"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("privileged"):
        yield "is privileged"
    if own.get("procMount", "Default") != "Default":
        yield "procMount is not Default"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "the root file system can be written"
    capabilities = own.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "capabilities are not dropped: ALL"


def _autoscalers(manifest: Manifest) -> Iterator[Manifest]:
    """The options of each autoscaler that KubeRay starts beside a head."""
    spec = manifest.get("spec", {})
    cluster = spec.get("rayClusterConfig", spec if manifest.get("kind") == "RayCluster" else {})
    if cluster.get("enableInTreeAutoscaling"):
        yield cluster.get("autoscalerOptions", {})
