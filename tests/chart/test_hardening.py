"""C6: every pod runs in a namespace that enforces "restricted", with the least rights, behind listed flows only."""

import pytest

from tests.chart import restricted
from tests.chart.agreement import fits, workloads
from tests.chart.scenes import FILES, of_kind, scene

MAY = {"get", "list", "watch", "create", "update", "patch", "delete"}


@pytest.mark.parametrize("file", FILES)
def test_every_pod_template_is_restricted(file):
    objects = scene(file)
    assert {place: found for place, each in objects.items() if (found := restricted.flaws(each))} == {}
    assert list(workloads(objects))


@pytest.mark.parametrize("file", FILES)
def test_no_role_is_wide(file):
    for place, role in of_kind(scene(file), "Role", "ClusterRole").items():
        for rule in role["rules"]:
            words = [*rule["verbs"], *rule.get("resources", []), *rule.get("apiGroups", [])]
            assert not any("*" in word for word in words), place
            assert set(rule["verbs"]) <= MAY, place
            assert "secrets" not in rule.get("resources", []), place
    assert of_kind(scene(file), "ClusterRole", "ClusterRoleBinding") == {}


@pytest.mark.parametrize("file", FILES)
def test_a_token_is_mounted_only_where_a_role_is_bound(file):
    objects = scene(file)
    bound = {s["name"] for b in of_kind(objects, "RoleBinding").values() for s in b["subjects"]}
    for account in of_kind(objects, "ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False, account["metadata"]["name"]
    for place, _, spec in workloads(objects):
        mounted = spec.get("automountServiceAccountToken", False)
        assert mounted == (spec["serviceAccountName"] in bound), place


@pytest.mark.parametrize("file", FILES)
def test_every_pod_is_behind_a_policy_that_denies_by_default(file):
    objects = scene(file)
    policies = of_kind(objects, "NetworkPolicy").values()
    for place, labels, _ in workloads(objects):
        kinds = {kind for p in policies if fits(p["spec"]["podSelector"], labels) for kind in p["spec"]["policyTypes"]}
        assert kinds == {"Ingress", "Egress"}, f"{place} is open"
    for policy in policies:
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            assert rule, f"{policy['metadata']['name']} has a rule that lets everything through"
