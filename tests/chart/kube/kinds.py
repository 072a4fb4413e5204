"""What the fake API serves: kinds by group and version, and the documents in which a client discovers them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

BUILT_IN: Mapping[str, str] = {  # "!" marks what lives outside namespaces
    "v1": "ConfigMap Secret Service ServiceAccount Pod PersistentVolumeClaim Namespace! Node! Event Endpoints",
    "apps/v1": "Deployment StatefulSet DaemonSet ReplicaSet",
    "batch/v1": "Job CronJob",
    "rbac.authorization.k8s.io/v1": "Role RoleBinding ClusterRole! ClusterRoleBinding!",
    "networking.k8s.io/v1": "NetworkPolicy Ingress",
    "policy/v1": "PodDisruptionBudget",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "scheduling.k8s.io/v1": "PriorityClass!",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition!",
}
OPERATORS: Mapping[str, Mapping[str, str]] = {
    "monitoring": {"monitoring.coreos.com/v1": "ServiceMonitor PodMonitor PrometheusRule"},
    "ray": {"ray.io/v1": "RayCluster RayJob RayService"},
    "keda": {"keda.sh/v1alpha1": "ScaledObject TriggerAuthentication"},
}
EVERY_OPERATOR = frozenset(OPERATORS)
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class Kind:
    """One kind of one group: `plural` is its name in a path."""

    group_version: str
    name: str
    is_namespaced: bool

    @property
    def plural(self) -> str:
        word = self.name.lower()
        if word == "endpoints":
            return word
        if word.endswith("y"):
            return f"{word[:-1]}ies"
        return f"{word}es" if word.endswith("s") else f"{word}s"


class Catalogue:
    """Every kind that one cluster serves."""

    def __init__(self, operators: frozenset[str], newest_ray: bool) -> None:
        table = dict(BUILT_IN)
        for operator in sorted(operators):
            table.update(OPERATORS[operator])
        if newest_ray and "ray.io/v1" in table:
            table["ray.io/v1"] += " RayCronJob"
        self.kinds = {
            group_version: [Kind(group_version, name.rstrip("!"), not name.endswith("!")) for name in names.split()]
            for group_version, names in table.items()
        }

    def find(self, group_version: str, plural: str) -> Kind | None:
        return next((kind for kind in self.kinds.get(group_version, []) if kind.plural == plural), None)

    def groups(self) -> dict[str, object]:
        versions: dict[str, list[dict[str, str]]] = {}
        for name in self.kinds:
            if "/" in name:
                group, version = name.split("/")
                versions.setdefault(group, []).append({"groupVersion": name, "version": version})
        listed = [{"name": group, "versions": v, "preferredVersion": v[0]} for group, v in versions.items()]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}

    def resources(self, group_version: str) -> dict[str, object] | None:
        if group_version not in self.kinds:
            return None
        listed = [
            {
                "name": k.plural,
                "singularName": k.name.lower(),
                "namespaced": k.is_namespaced,
                "kind": k.name,
                "verbs": VERBS,
            }
            for k in self.kinds[group_version]
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}

    def openapi_index(self) -> dict[str, object]:
        return {"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}"} for place in map(_place, self.kinds)}}

    def openapi(self, group_version: str) -> dict[str, object]:
        """The least that Helm reads of a group: that a PATCH of each kind knows field validation."""
        paths = dict(self._patches(group_version))
        return {"openapi": "3.0.0", "info": {"title": "fake", "version": "0"}, "paths": paths}

    def _patches(self, group_version: str) -> Iterator[tuple[str, object]]:
        group, _, version = group_version.rpartition("/")
        for kind in self.kinds.get(group_version, []):
            patch = {
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind.name},
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "responses": {"200": {"description": "OK"}},
            }
            yield f"/{_place(group_version)}/{kind.plural}/{{name}}", {"patch": patch}


def _place(group_version: str) -> str:
    return f"apis/{group_version}" if "/" in group_version else f"api/{group_version}"
