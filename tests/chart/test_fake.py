"""What is said of charts here is only as good as the cluster that they meet: it refuses what a real one does."""

from pathlib import Path

import helm_sdkpy
import pytest

from tests.chart import strict
from tests.chart.engine import refusal, releasing, render
from tests.chart.kube.cluster import Cluster

OLDER = {
    "Chart.yaml": "apiVersion: v2\nname: small\nversion: 0.0.1\nappVersion: '1'\n",
    "values.yaml": "label: first\nclaim: 1Gi\nconfig: small\nmode: auto\nmigration: hook\nclusterIP: null\n",
    "templates/objects.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: small}
data: {PLORA_DATABASE_MIGRATE: {{ .Values.mode }}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: small}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: {{ .Values.claim }}}}}
---
apiVersion: v1
kind: Service
metadata: {name: small}
spec:
  {{- with .Values.clusterIP }}
  clusterIP: {{ . }}
  {{- end }}
  selector: {app: {{ .Values.label }}}
  ports: [{name: http, port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: small}
spec:
  selector: {matchLabels: {app: {{ .Values.label }}}}
  template:
    metadata: {labels: {app: {{ .Values.label }}}}
    spec:
      containers: [{name: small, image: small, envFrom: [{configMapRef: {name: {{ .Values.config }}}}]}]
---
apiVersion: batch/v1
kind: Job
metadata:
  name: small-{{ .Release.Revision }}
  {{- if eq .Values.migration "hook" }}
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
  {{- end }}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: small, image: small, args: [migrate]}]}}}
""",
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A chart of a few objects, so small that what is refused has one cause."""
    for name, text in OLDER.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"label": "second"}, "spec.selector: Invalid value: field is immutable"),
        ({"claim": "2Gi"}, "expands no volumes"),
        ({"clusterIP": "None"}, "spec.clusterIP"),
        ({"config": "elsewhere"}, 'refers to ConfigMap "elsewhere", which is not there'),
    ],
)
def test_an_upgrade_that_no_cluster_takes_is_refused_and_rolled_back(small, changed, said):
    cluster = Cluster()
    with releasing(cluster) as release:
        release.install(chart=small)
        before = cluster.objects()
        with pytest.raises(helm_sdkpy.UpgradeError, match=said):
            release.upgrade(changed, chart=small, rollback=True)
        states = [each["info"]["status"] for each in release.history()]
    assert states == ["superseded", "failed", "deployed"]
    assert _specs(cluster.objects()) == _specs(before)


def test_an_unknown_field_is_refused_where_it_stands(small):
    file = small / "templates" / "objects.yaml"
    file.write_text(file.read_text().replace("image: small, envFrom", "image: small, livenessprob: {}, envFrom"))
    assert "livenessprob" in refusal(Cluster(check=strict.flaws), chart=small)


def test_a_hook_that_fails_leaves_the_deployment_alone(small):
    cluster = Cluster()
    with releasing(cluster) as release:
        release.install(chart=small)
        before = cluster.objects()["deployments/small"]
        cluster.migration_fails = True
        with pytest.raises(helm_sdkpy.UpgradeError, match="pre-upgrade hooks failed"):
            release.upgrade({"config": "small", "mode": "never"}, chart=small)
    assert cluster.objects()["deployments/small"] == before


def test_a_daemon_that_may_not_migrate_is_ready_only_after_the_migration(small):
    cluster = Cluster()
    cluster.migration_fails = True
    with releasing(cluster) as release:
        release.install({"mode": "never", "migration": "job"}, chart=small)
        assert cluster.objects()["deployments/small"]["status"]["readyReplicas"] == 0
        cluster.migration_fails = False
        release.upgrade({"mode": "never", "migration": "job"}, chart=small, wait=True)
    assert cluster.objects()["deployments/small"]["status"]["readyReplicas"] == 1


def test_hooks_come_before_all_else_and_an_uninstall_leaves_nothing(small):
    cluster = Cluster()
    with releasing(cluster) as release:
        release.install({"migration": "hook"}, chart=small)
        assert cluster.writes[0] == ("create", "jobs/small-1")
        release.uninstall()
    assert list(cluster.objects()) == ["jobs/small-1"], "Helm keeps what a hook has made"


def test_a_cluster_without_an_operator_does_not_know_its_kinds(small):
    (small / "templates" / "monitor.yaml").write_text(
        "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\n"
        "metadata: {name: small}\nspec: {selector: {}, endpoints: []}\n"
    )
    assert "servicemonitors/small" in render(Cluster(), chart=small)
    assert "ServiceMonitor" in refusal(Cluster(operators=()), chart=small)


def _specs(objects):
    return {name: each.get("spec", each.get("data")) for name, each in objects.items() if not name.startswith("jobs/")}
