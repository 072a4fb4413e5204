"""What a cluster refuses: changes of fields that never change, and pods that name what is not there.

A real API server takes a pod whose Secret is missing and leaves it pending for ever; here the same is refused at once,
so that a test sees which object was written too early, or never.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Manifest = dict[str, Any]
SECRET_BYTES = 1_048_576
NEVER: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("spec.selector",),
    "DaemonSet": ("spec.selector",),
    "StatefulSet": ("spec.selector", "spec.serviceName", "spec.volumeClaimTemplates", "spec.podManagementPolicy"),
    "Job": ("spec.template", "spec.selector", "spec.completions", "spec.completionMode"),
    "Service": ("spec.clusterIP",),
    "PersistentVolumeClaim": ("spec.accessModes", "spec.storageClassName", "spec.volumeName", "spec.volumeMode"),
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
    "PriorityClass": ("value",),
    "Secret": ("type",),
}
FROZEN = ("data", "stringData", "binaryData")  # of a ConfigMap or Secret that says `immutable: true`
PRESENT = {"Secret": "secrets", "ConfigMap": "configmaps", "ServiceAccount": "serviceaccounts",
           "PersistentVolumeClaim": "persistentvolumeclaims"}  # fmt: skip


class Refused(Exception):
    """The API answers with an error: HTTP `code`, Kubernetes' own `reason` and a text."""

    def __init__(self, code: int, reason: str, text: str) -> None:
        super().__init__(code, reason, text)
        self.code, self.reason, self.text = code, reason, text


def check_change(kind: str, old: Manifest, new: Manifest) -> None:
    """Raises Refused where `new` changes what stays for ever."""
    name = new["metadata"]["name"]
    for path in NEVER.get(kind, ()):
        if _at(old, path) != _at(new, path):
            raise Refused(422, "Invalid", f'{kind} "{name}" is invalid: {path}: Invalid value: field is immutable')
    if old.get("immutable"):
        for path in FROZEN:
            if _at(old, path) != _at(new, path):
                raise Refused(
                    422, "Invalid", f'{kind} "{name}" is invalid: {path}: field is immutable when `immutable` is set'
                )
    if kind == "PersistentVolumeClaim" and _storage(new) != _storage(old):
        raise Refused(422, "Invalid", f'{kind} "{name}" is invalid: spec.resources: this cluster expands no volumes')


def check_new(kind: str, new: Manifest) -> None:
    """Raises Refused for what no cluster stores."""
    name = new["metadata"]["name"]
    if kind == "Secret" and sum(map(len, new.get("data", {}).values())) * 3 // 4 > SECRET_BYTES:
        raise Refused(422, "Invalid", f'Secret "{name}" is invalid: data: Too long: may not be more than 1048576 bytes')
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        wanted = new["spec"]["selector"]["matchLabels"]
        labels = new["spec"]["template"]["metadata"]["labels"]
        if not wanted.items() <= labels.items():
            raise Refused(422, "Invalid", f'{kind} "{name}" is invalid: `selector` does not match template `labels`')


def check_references(kind: str, new: Manifest, is_there: Callable[[str, str], bool]) -> None:
    """Raises Refused where a pod of `new` names an object of its namespace that `is_there` denies."""
    for pod in pods(new):
        for wanted, name, optional in references(pod["spec"]):
            if not optional and not is_there(PRESENT[wanted], name):
                place = new["metadata"]["name"]
                raise Refused(422, "Invalid", f'{kind} "{place}" refers to {wanted} "{name}", which is not there yet')


def pods(manifest: Manifest) -> Iterator[Manifest]:
    """Every pod template in `manifest`, at whatever depth; a Pod is its own template."""
    if manifest.get("kind") == "Pod":
        yield manifest
    stack: list[Any] = [manifest.get("spec")]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            template = node.get("template")
            if isinstance(template, dict) and "containers" in template.get("spec", {}):
                yield template
            stack.extend(node.values())


def references(spec: Manifest) -> Iterator[tuple[str, str, bool]]:
    """(kind, name, optional) of each object that a pod needs before it starts."""
    account = spec.get("serviceAccountName")
    if account and account != "default":
        yield "ServiceAccount", account, False
    for secret in spec.get("imagePullSecrets", []):
        yield "Secret", secret["name"], True  # the kubelet pulls without it
    for volume in spec.get("volumes", []):
        yield from _sources(volume)
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        for each in container.get("envFrom", []):
            yield from _named(each, "configMapRef", "secretRef")
        for each in container.get("env", []):
            yield from _named(each.get("valueFrom", {}), "configMapKeyRef", "secretKeyRef")


def _sources(volume: Manifest) -> Iterator[tuple[str, str, bool]]:
    if claim := volume.get("persistentVolumeClaim"):
        yield "PersistentVolumeClaim", claim["claimName"], False
    for source in [volume, *volume.get("projected", {}).get("sources", [])]:
        if secret := source.get("secret"):
            yield "Secret", secret.get("secretName") or secret["name"], bool(secret.get("optional"))
        if config := source.get("configMap"):
            yield "ConfigMap", config["name"], bool(config.get("optional"))


def _named(holder: Manifest, config: str, secret: str) -> Iterator[tuple[str, str, bool]]:
    for kind, ref in (("ConfigMap", holder.get(config)), ("Secret", holder.get(secret))):
        if ref:
            yield kind, ref["name"], bool(ref.get("optional"))


def _at(manifest: Manifest, path: str) -> Any:
    node: Any = manifest
    for step in path.split("."):
        node = node.get(step) if isinstance(node, dict) else None
    return node


def _storage(claim: Manifest) -> Any:
    return _at(claim, "spec.resources.requests.storage")
