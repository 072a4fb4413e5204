"""C5: in every mode the schema is up to date before a daemon is ready, and a failed migration changes nothing else."""

import helm_sdkpy
import pytest

from tests.chart import strict
from tests.chart.agreement import workloads
from tests.chart.engine import releasing
from tests.chart.kube.cluster import Cluster
from tests.chart.kube.rules import references
from tests.chart.kube.states import is_migration
from tests.chart.scenes import of_kind, outside, overlay, scene, values

FILE = "postgres-kuberay"
MODES = ("hook", "job", "initContainer", "none")
DAEMON = "deployments/rel-plora"


def migrating(mode, extra=None):
    return values(FILE, {"migrations": {"mode": mode, "existingSecret": "migrator", **(extra or {})}})


def cluster_for(chosen):
    return Cluster(outside=outside(chosen), check=strict.flaws)


@pytest.mark.parametrize("mode", MODES[:3])
def test_install_and_upgrade_with_wait_end(mode):
    chosen = migrating(mode)
    made = cluster_for(chosen)
    with releasing(made) as release:
        release.install(chosen, wait=True)
        assert made.is_migrated
        release.upgrade(migrating(mode, {"backoffLimit": 3}), wait=True)
    assert made.objects()[DAEMON]["status"]["readyReplicas"] == made.objects()[DAEMON]["spec"]["replicas"]


def test_without_a_migration_the_daemon_waits_for_somebody_elses():
    chosen = migrating("none")
    made = cluster_for(chosen)
    with releasing(made) as release:
        release.install(chosen)
    assert not any(is_migration(each) for each in made.objects().values())
    assert made.objects()[DAEMON]["status"]["readyReplicas"] == 0


def test_a_hook_names_only_what_was_there_before_it():
    chosen = migrating("hook")
    made = cluster_for(chosen)
    with releasing(made) as release:
        release.install(chosen)
    hooks = [p for _, p in made.writes if "helm.sh/hook" in made.objects()[p]["metadata"].get("annotations", {})]
    jobs = [place for place in hooks if place.startswith("jobs/")]
    assert jobs
    first = min(i for i, (_, place) in enumerate(made.writes) if place not in hooks)
    assert all(made.writes.index(("create", place)) < first for place in jobs), "the migration ends before all else"
    for place in jobs:
        for kind, name, _ in references(made.objects()[place]["spec"]["template"]["spec"]):
            plural = f"{kind.lower()}s/{name}"
            assert plural in hooks or plural in made.outside, f"{place} needs {plural}"


@pytest.mark.parametrize("mode", ["hook"])
def test_a_failed_migration_leaves_the_daemon_as_it_was(mode):
    chosen = migrating(mode)
    made = cluster_for(chosen)
    with releasing(made) as release:
        release.install(chosen)
        before = made.objects()
        made.migration_fails = True
        with pytest.raises(helm_sdkpy.UpgradeError, match="pre-upgrade hooks failed"):
            release.upgrade(values(FILE, {"settings": {"trigger": {"minFresh": 17}}}))
        after = made.objects()
    assert after[DAEMON] == before[DAEMON]
    assert of_kind(after, "ConfigMap", "RayService") == of_kind(before, "ConfigMap", "RayService")


@pytest.mark.parametrize(
    "change",
    [
        {"commonLabels": {"team": "other"}},
        {"settings": {"logFormat": "text"}},
        {"image": {"digest": f"sha256:{'0' * 64}"}},
        {"migrations": {"backoffLimit": 5, "resources": {"limits": {"memory": "1Gi"}}}},
        {"global": {"imagePullSecrets": [{"name": "registry"}]}},
    ],
)
def test_a_job_is_never_changed_but_made_anew(change):
    chosen = values(FILE, {"migrations": {"mode": "job"}})
    made = cluster_for(chosen)
    with releasing(made) as release:
        release.install(chosen)
        release.upgrade(overlay(chosen, change))
        assert made.is_migrated


def test_the_mode_can_be_changed_to_any_other():
    made = cluster_for(migrating("hook"))
    with releasing(made) as release:
        release.install(migrating("hook"))
        for mode in ("job", "hook", "initContainer", "none", "job"):
            release.upgrade(migrating(mode))


def test_an_init_container_gets_what_the_migration_is_told():
    extra = {
        "extraEnv": [{"name": "PGSSLROOTCERT", "value": "/ca/root.crt"}],
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    }
    both = {"migrations": {"mode": "initContainer", **extra}, "daemon": {"extraVolumes": extra["extraVolumes"]}}
    spec = scene(FILE, both)[DAEMON]["spec"]["template"]["spec"]
    assert extra["extraEnv"][0] in spec["initContainers"][0]["env"]
    assert extra["extraVolumeMounts"][0] in spec["initContainers"][0]["volumeMounts"]
    assert spec["volumes"].count(extra["extraVolumes"][0]) == 1


@pytest.mark.parametrize("mode", MODES[:2])
def test_the_one_who_migrates_is_somebody_else_with_credentials_of_its_own(mode):
    objects = scene(FILE, {"migrations": {"mode": mode, "existingSecret": "migrator"}})
    (job,) = [spec for place, _, spec in workloads(objects) if place.startswith("jobs/")]
    daemon = objects[DAEMON]["spec"]["template"]["spec"]
    assert job["serviceAccountName"] != daemon["serviceAccountName"]
    assert {name for kind, name, _ in references(job) if kind == "Secret"} == {"migrator"}
    assert "migrator" not in {name for kind, name, _ in references(daemon)}


def test_embedded_mode_needs_no_migration():
    assert not any(is_migration(each) for each in scene("embedded").values())
