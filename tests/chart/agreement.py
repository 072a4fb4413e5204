"""Whether the objects of one rendering agree: selectors find pods, ports have names, what is named is there.

KubeRay makes pods out of a RayService, with labels of its own; `ray_pods` says which labels those will have.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.chart.kube.rules import PRESENT, Manifest, pods, references

Labels = Mapping[str, str]
Objects = Mapping[str, Manifest]
RAY_PORTS = {
    "head": {"as-metrics": 44217, "dash-metrics": 44227}
}  # that the operator or Ray opens beside the listed ones


def flaws(objects: Objects, outside: frozenset[str] = frozenset()) -> list[str]:
    """Every dangling name in `objects`; `outside` lists what an operator makes, as `secrets/name`."""
    found = [*_selectors(objects), *_monitors(objects), *_named(objects, outside), *_keys(objects), *_accounts(objects)]
    return sorted(set(found))


def workloads(objects: Objects) -> Iterator[tuple[str, Labels, Manifest]]:
    """(what, labels, pod spec) of every pod that `objects` lead to."""
    for place, manifest in objects.items():
        if manifest["kind"] == "RayService":
            yield from ray_pods(place, manifest)
            continue
        for pod in pods(manifest):
            yield place, pod["metadata"].get("labels", {}), pod["spec"]


def ray_pods(place: str, service: Manifest) -> Iterator[tuple[str, Labels, Manifest]]:
    cluster = service["spec"]["rayClusterConfig"]
    groups = [("head", "headgroup", cluster["headGroupSpec"])]
    groups += [("worker", each["groupName"], each) for each in cluster.get("workerGroupSpecs", [])]
    for kind, name, group in groups:
        template = group["template"]
        own = {
            "app.kubernetes.io/name": "kuberay",
            "app.kubernetes.io/created-by": "kuberay-operator",
            "ray.io/cluster": f"{service['metadata']['name']}-x",
            "ray.io/node-type": kind,
            "ray.io/group": name,
            "ray.io/is-ray-node": "yes",
            "ray.io/serve": "true",
            "ray.io/originated-from-cr-name": service["metadata"]["name"],
            "ray.io/originated-from-crd": "RayService",
        }
        yield f"{place}/{name}", {**own, **template.get("metadata", {}).get("labels", {})}, template["spec"]


def fits(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a label selector takes `labels`; an empty one takes all."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", []):
        value, values = labels.get(each["key"]), each.get("values", [])
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[each["operator"]]:
            return False
    return True


def ports(spec: Manifest) -> dict[str, int]:
    """The named ports of a pod."""
    named = [port for each in spec["containers"] for port in each.get("ports", []) if "name" in port]
    return {port["name"]: port["containerPort"] for port in named}


def _selectors(objects: Objects) -> Iterator[str]:
    every = list(workloads(objects))
    for place, manifest in objects.items():
        kind, spec = manifest["kind"], manifest.get("spec", {})
        if kind == "Service":
            selector = {"matchLabels": spec["selector"]} if "selector" in spec else None
        elif kind in ("PodDisruptionBudget", "PodMonitor"):
            selector = spec["selector"]
        elif kind == "NetworkPolicy":
            selector = spec["podSelector"]
        else:
            continue
        if selector is None or not (taken := [each for each in every if fits(selector, each[1])]):
            yield f"{place} selects no pod"
            continue
        if kind == "Service":
            yield from _service_ports(place, spec, taken)


def _service_ports(place: str, spec: Manifest, taken: list[tuple[str, Labels, Manifest]]) -> Iterator[str]:
    for port in spec["ports"]:
        wanted = port.get("targetPort", port["port"])
        for what, _, pod in taken:
            known = ports(pod)
            if wanted not in known and wanted not in known.values():
                yield f"{place}: port {wanted} is none of {what}"


def _monitors(objects: Objects) -> Iterator[str]:
    every = list(workloads(objects))
    for place, manifest in objects.items():
        spec = manifest.get("spec", {})
        if manifest["kind"] == "ServiceMonitor":
            services = [s for s in objects.values() if s["kind"] == "Service"]
            taken = [s for s in services if fits(spec["selector"], s["metadata"].get("labels", {}))]
            if not taken:
                yield f"{place} selects no service"
            for endpoint in spec["endpoints"]:
                if not any(endpoint["port"] == port.get("name") for s in taken for port in s["spec"]["ports"]):
                    yield f"{place}: no service has a port {endpoint['port']}"
        if manifest["kind"] == "PodMonitor":
            taken = [pod for _, labels, pod in every if fits(spec["selector"], labels)]
            for endpoint in spec["podMetricsEndpoints"]:
                name = endpoint.get("port")
                if name not in RAY_PORTS["head"] and not any(name in ports(pod) for pod in taken):
                    yield f"{place}: no pod has a port {name}"


def _named(objects: Objects, outside: frozenset[str]) -> Iterator[str]:
    for place, _, spec in workloads(objects):
        for kind, name, optional in references(spec):
            if not optional and f"{PRESENT[kind]}/{name}" not in {*objects, *outside}:
                yield f"{place}: {kind} {name} is neither rendered nor named in the values"
        mounts = [m for c in [*spec.get("initContainers", []), *spec["containers"]] for m in c.get("volumeMounts", [])]
        mounted, known = {each["name"] for each in mounts}, {each["name"] for each in spec.get("volumes", [])}
        for name in sorted(mounted ^ known):
            yield f"{place}: volume {name} is {'not defined' if name in mounted else 'never mounted'}"
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield from _probes(place, container)


def _probes(place: str, container: Manifest) -> Iterator[str]:
    known = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        wanted = container.get(name, {}).get("httpGet", {}).get("port")
        if wanted is not None and wanted not in known and wanted not in known.values():
            yield f"{place}: {name} asks port {wanted}, which {container['name']} does not open"


def _keys(objects: Objects) -> Iterator[str]:
    """ConfigMap keys that a pod mounts or reads, and that the rendered ConfigMap lacks."""
    configs = {m["metadata"]["name"]: m.get("data", {}) for m in objects.values() if m["kind"] == "ConfigMap"}
    for place, _, spec in workloads(objects):
        for volume in spec.get("volumes", []):
            source = volume.get("configMap", {})
            for item in source.get("items", []):
                if source["name"] in configs and item["key"] not in configs[source["name"]]:
                    yield f"{place}: {source['name']} has no key {item['key']}"
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for each in container.get("env", []):
                ref = each.get("valueFrom", {}).get("configMapKeyRef", {})
                if ref.get("name") in configs and ref["key"] not in configs[ref["name"]]:
                    yield f"{place}: {ref['name']} has no key {ref['key']}"


def _accounts(objects: Objects) -> Iterator[str]:
    """Role bindings whose role or account is not there."""
    for place, manifest in objects.items():
        if manifest["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            ref = manifest["roleRef"]
            if f"{ref['kind'].lower()}s/{ref['name']}" not in objects:
                yield f"{place}: {ref['kind']} {ref['name']} is not rendered"
            for subject in manifest["subjects"]:
                if subject["kind"] == "ServiceAccount" and f"serviceaccounts/{subject['name']}" not in objects:
                    yield f"{place}: ServiceAccount {subject['name']} is not rendered"
