"""A cluster in memory: objects by name, changes that are refused or kept, and those who watch."""

import json
import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.chart.kube.kinds import EVERY_OPERATOR, Catalogue, Kind
from tests.chart.kube.patches import merge
from tests.chart.kube.rules import Manifest, Refused, check_change, check_new, check_references
from tests.chart.kube.states import THEN, is_migration, status

RELEASE = "helm.sh/release.v1"  # the type of the Secret in which Helm keeps a revision


class Key(NamedTuple):
    group_version: str
    plural: str
    namespace: str
    name: str


@dataclass(eq=False)
class Watcher:
    """One open watch: what it asks for, and the events that it has not sent yet."""

    group_version: str
    plural: str
    namespace: str
    query: Mapping[str, str]
    events: "queue.Queue[Manifest]" = field(default_factory=queue.Queue)


class Cluster:
    """What Helm talks to through `server`; a test reads `objects` and `writes`.

    `migration_fails` lets every Job and Pod fail; `outside` names Secrets that an operator has made, as `secrets/name`.
    """

    def __init__(
        self,
        version: str = "1.31",
        operators: Iterable[str] = EVERY_OPERATOR,
        *,
        outside: Iterable[str] = (),
        newest_ray: bool = False,
        check: Callable[[Manifest], list[str]] | None = None,
    ) -> None:
        major, minor = version.split(".")[:2]
        self.version = {"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.0", "platform": "linux/amd64"}
        self.catalogue = Catalogue(frozenset(operators), newest_ray)
        self.outside, self.check = set(outside), check
        self.migration_fails = self.is_migrated = False
        self.writes: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self._stored: dict[Key, Manifest] = {}
        self._watchers: list[Watcher] = []
        self._revision = 100

    def objects(self) -> dict[str, Manifest]:
        """Everything stored but Helm's own records, as `plural/name`."""
        with self.lock:
            kept = {
                f"{key.plural}/{key.name}": each for key, each in self._stored.items() if each.get("type") != RELEASE
            }
        return json.loads(json.dumps(kept))

    def release_bytes(self) -> int:
        """The size of the largest Secret in which Helm keeps a revision: a cluster takes 1 MiB."""
        return max(len(json.dumps(each)) for each in self._stored.values() if each.get("type") == RELEASE)

    def get(self, key: Key) -> Manifest:
        if key not in self._stored:
            raise Refused(404, "NotFound", f'{key.plural} "{key.name}" not found')
        return self._stored[key]

    def has(self, key: Key) -> bool:
        return key in self._stored

    def select(self, place: Key, query: Mapping[str, str]) -> Iterator[Manifest]:
        for key, each in self._stored.items():
            if key[:2] == place[:2] and place.namespace in ("", key.namespace) and _matches(each, query):
                yield each

    def create(self, key: Key, kind: Kind, manifest: Manifest) -> Manifest:
        if key in self._stored:
            raise Refused(409, "AlreadyExists", f'{key.plural} "{key.name}" already exists')
        return self.put(key, kind, manifest)

    def patch(self, key: Key, kind: Kind, patch: Manifest, *, strategic: bool) -> Manifest:
        return self.put(key, kind, merge(self.get(key), patch, strategic=strategic))

    def put(self, key: Key, kind: Kind, manifest: Manifest) -> Manifest:
        """Store `manifest` as a whole: what one manager applies is the object. Raises Refused."""
        old = self._stored.get(key)
        new = {"apiVersion": kind.group_version, "kind": kind.name} | json.loads(json.dumps(manifest))
        self._judge(key, old, new)
        self._revision += 1
        meta = new["metadata"]
        meta.update({"uid": old["metadata"]["uid"] if old else str(uuid.uuid4()), "creationTimestamp": THEN})
        meta.update({"resourceVersion": str(self._revision), "generation": self._generation(old, new)})
        if key.namespace:
            meta["namespace"] = key.namespace
        self._stored[key] = new
        if new.get("type") != RELEASE:
            self.writes.append(("update" if old else "create", f"{key.plural}/{key.name}"))
        self._settle(key)
        self._notify("MODIFIED" if old else "ADDED", key)
        return new

    def delete(self, key: Key) -> None:
        gone = self.get(key)
        self._revision += 1
        self._notify("DELETED", key)
        del self._stored[key]
        self.writes.append(("delete", f"{key.plural}/{gone['metadata']['name']}"))

    def watch(self, place: Key, query: Mapping[str, str]) -> Watcher:
        """A watcher that has what is there already, then the bookmark that ends the initial list."""
        watcher = Watcher(place.group_version, place.plural, place.namespace, query)
        if query.get("sendInitialEvents") == "true":
            for each in self.select(place, query):
                watcher.events.put({"type": "ADDED", "object": each})
            kind = self.catalogue.find(place.group_version, place.plural)
            ended = {"resourceVersion": str(self._revision), "annotations": {"k8s.io/initial-events-end": "true"}}
            bookmark = {"kind": kind.name if kind else "", "apiVersion": place.group_version, "metadata": ended}
            watcher.events.put({"type": "BOOKMARK", "object": bookmark})
        self._watchers.append(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers.remove(watcher)

    @property
    def revision(self) -> str:
        return str(self._revision)

    def _judge(self, key: Key, old: Manifest | None, new: Manifest) -> None:
        if new.get("type") != RELEASE and self.check and (flaws := self.check(new)):
            raise Refused(400, "BadRequest", f"strict decoding error: {'; '.join(flaws)}")
        check_new(new["kind"], new)
        if old:
            check_change(new["kind"], old, new)

        def is_there(plural: str, name: str) -> bool:
            return f"{plural}/{name}" in self.outside or Key("v1", plural, key.namespace, name) in self._stored

        check_references(new["kind"], new, is_there)

    @staticmethod
    def _generation(old: Manifest | None, new: Manifest) -> int:
        if old is None:
            return 1
        return old["metadata"]["generation"] + (old.get("spec") != new.get("spec"))

    def _settle(self, key: Key) -> None:
        """Let the controllers act on `key`: a migration that ends lets waiting daemons become ready."""
        new = self._stored[key]
        ran = is_migration(new) and not self.migration_fails
        if ran and not self.is_migrated:
            self.is_migrated = True
            for other, each in self._stored.items():
                if each["kind"] == "Deployment" and other != key:
                    self._assess(other)
                    self._notify("MODIFIED", other)
        self._assess(key)

    def _assess(self, key: Key) -> None:
        each = self._stored[key]
        ready = self.is_migrated or not self._waits(key, each)
        state = status(each, is_ready=ready, job_fails=self.migration_fails)
        if state is not None:
            each["status"] = state

    def _waits(self, key: Key, manifest: Manifest) -> bool:
        """Whether the pods may not bring the schema up to date themselves, so that another must have."""
        return environment(manifest, self._configs(key.namespace)).get("PLORA_DATABASE_MIGRATE") == "never"

    def _configs(self, namespace: str) -> dict[str, Mapping[str, str]]:
        return {
            key.name: each.get("data", {})
            for key, each in self._stored.items()
            if key.plural == "configmaps" and key.namespace == namespace
        }

    def _notify(self, event: str, key: Key) -> None:
        each = self._stored[key]
        for watcher in self._watchers:
            asked = (watcher.group_version, watcher.plural) == key[:2] and watcher.namespace in ("", key.namespace)
            if asked and _matches(each, watcher.query):
                watcher.events.put({"type": event, "object": json.loads(json.dumps(each))})


def environment(manifest: Manifest, configs: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The variables of a workload's first container: of ConfigMaps by value, of Secrets as `secret:NAME/KEY`."""
    containers = manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    found: dict[str, Any] = {}
    for container in containers[:1]:
        for each in container.get("envFrom", []):
            if ref := each.get("configMapRef"):
                found.update(configs.get(ref["name"], {}))
        for each in container.get("env", []):
            source = each.get("valueFrom", {})
            if ref := source.get("secretKeyRef"):
                found[each["name"]] = f"secret:{ref['name']}/{ref['key']}"
            elif ref := source.get("configMapKeyRef"):
                found[each["name"]] = configs.get(ref["name"], {}).get(ref["key"])
            elif ref := source.get("fieldRef"):
                found[each["name"]] = f"field:{ref['fieldPath']}"
            else:
                found[each["name"]] = each.get("value", "")
    return found


def _matches(manifest: Manifest, query: Mapping[str, str]) -> bool:
    fields = dict(each.split("=", 1) for each in query.get("fieldSelector", "").split(",") if "=" in each)
    if fields.get("metadata.name") not in (None, manifest["metadata"]["name"]):
        return False
    labels = manifest["metadata"].get("labels", {})
    wanted = [each.split("=", 1) for each in query.get("labelSelector", "").split(",") if "=" in each]
    return all(labels.get(name) == value.lstrip("=") for name, value in wanted)
