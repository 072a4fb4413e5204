"""What controllers would make of an object: the status that Helm waits for.

A daemon that may not migrate (PLORA_DATABASE_MIGRATE=never) becomes ready when a migration has run, not before.
"""

from typing import Any

from tests.chart.kube.rules import Manifest, pods

THEN = "2026-01-01T00:00:00Z"
MIGRATE = "migrate"


def is_migration(manifest: Manifest) -> bool:
    """Whether a container of one of the pods runs the migration: as a Job, or before the daemon in its own pod."""
    return any(
        MIGRATE in [*container.get("command", []), *container.get("args", [])]
        for pod in pods(manifest)
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    )


def status(manifest: Manifest, *, is_ready: bool, job_fails: bool) -> Manifest | None:
    """The status of `manifest`, or None for a kind that has none."""
    kind, generation = manifest["kind"], manifest["metadata"]["generation"]
    if kind == "Deployment":
        return _deployment(generation, manifest["spec"].get("replicas", 1), is_ready=is_ready)
    if kind == "Job":
        return _job(fails=job_fails)
    fixed: dict[str, Manifest] = {
        "Pod": {"phase": "Failed" if job_fails else "Succeeded"},
        "PersistentVolumeClaim": {"phase": "Bound"},
        "PodDisruptionBudget": {"observedGeneration": generation, "currentHealthy": 1, "desiredHealthy": 1},
    }
    return fixed.get(kind)


def _deployment(generation: int, count: int, *, is_ready: bool) -> Manifest:
    ready = count if is_ready else 0
    conditions = [_condition("Available", holds=is_ready)]
    conditions.append(
        _condition("Progressing") | {"reason": "NewReplicaSetAvailable" if is_ready else "ReplicaSetUpdated"}
    )
    return {"observedGeneration": generation, "replicas": count, "updatedReplicas": count, "readyReplicas": ready,
            "availableReplicas": ready, "unavailableReplicas": count - ready, "conditions": conditions}  # fmt: skip


def _job(*, fails: bool) -> Manifest:
    if fails:
        failed = {"reason": "BackoffLimitExceeded", "message": "migration failed"}
        return {"failed": 1, "startTime": THEN, "conditions": [_condition("Failed") | failed]}
    return {"succeeded": 1, "startTime": THEN, "completionTime": THEN, "conditions": [_condition("Complete")]}


def _condition(name: str, *, holds: bool = True) -> dict[str, Any]:
    return {"type": name, "status": "True" if holds else "False", "lastTransitionTime": THEN}
