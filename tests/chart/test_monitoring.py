"""C12: what watches the pods finds them and keeps few series; dashboards and rules are those of the repository."""

import json

import pytest
import yaml

from tests.chart.agreement import fits, workloads
from tests.chart.engine import CHART
from tests.chart.kube.kinds import EVERY_OPERATOR
from tests.chart.scenes import FILES, of_kind, scene

WATCHED = "everything"
MOST_BYTES = 900_000
PER_WORKER = ("WorkerId", "SessionName")


def test_every_pod_that_counts_is_scraped_once():
    objects = scene(WATCHED, chart=CHART)
    monitors = of_kind(objects, "PodMonitor").values()
    services = [s for s in of_kind(objects, "Service").values() if _is_watched(s, objects)]
    for place, labels, _ in workloads(objects):
        if place.startswith(("jobs/", "pods/")):
            continue
        by_pod = [m for m in monitors if fits(m["spec"]["selector"], labels)]
        by_service = [s for s in services if fits({"matchLabels": s["spec"]["selector"]}, labels)]
        assert len(by_pod) + len(by_service) == 1, place


def test_what_ray_says_of_each_worker_and_session_is_dropped():
    monitors = of_kind(scene(WATCHED, chart=CHART), "PodMonitor").values()
    assert monitors
    for monitor in monitors:
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            rules = endpoint.get("metricRelabelings", [])
            dropped = "|".join(rule["regex"] for rule in rules if rule["action"].lower() == "labeldrop")
            assert all(name in dropped for name in PER_WORKER), endpoint


def test_dashboards_are_the_files_of_the_repository():
    maps = of_kind(scene(WATCHED, chart=CHART), "ConfigMap")
    maps = {place: each for place, each in maps.items() if "grafana_dashboard" in each["metadata"]["labels"]}
    shown = {name: text for each in maps.values() for name, text in each["data"].items()}
    files = {file.name: file.read_text() for file in (CHART / "dashboards").glob("*.json")}
    assert files
    assert {name: text.rstrip("\n") for name, text in shown.items()} == {n: t.rstrip("\n") for n, t in files.items()}
    for each in maps.values():
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"]["grafana_folder"]
        assert len(json.dumps(each)) < MOST_BYTES


def test_rules_are_the_files_of_the_repository():
    shown = [
        group
        for rule in of_kind(scene(WATCHED, chart=CHART), "PrometheusRule").values()
        for group in rule["spec"]["groups"]
    ]
    wanted = [g for f in sorted((CHART / "rules").glob("*.yaml")) for g in yaml.safe_load(f.read_text())["groups"]]
    names = {rule.get("alert") or rule["record"] for group in shown for rule in group["rules"]}
    assert names == {rule.get("alert") or rule["record"] for group in wanted for rule in group["rules"]}
    for group in shown:
        for rule in group["rules"]:
            assert 'namespace=~".*"' not in rule["expr"], "installations do not answer for each other"
            if "alert" in rule:
                assert rule["annotations"]["runbook_url"].startswith("https://"), rule["alert"]


def test_an_alert_can_be_changed_or_left_out_and_asks_only_of_its_own_release():
    alerts = {
        "PloraTrainerDown": {"enabled": False},
        "PloraRunsFail": {"for": "1h", "severity": "critical", "keep_firing_for": "5m"},
    }
    [shown] = of_kind(scene(WATCHED, {"metrics": {"rules": {"alerts": alerts}}}), "PrometheusRule").values()
    rules = {rule.get("alert"): rule for group in shown["spec"]["groups"] for rule in group["rules"]}
    assert "PloraTrainerDown" not in rules
    changed = rules["PloraRunsFail"]
    assert (changed["for"], changed["labels"], changed["keep_firing_for"]) == ("1h", {"severity": "critical"}, "5m")
    assert 'namespace=~".*"' not in json.dumps(shown).replace('\\"', '"')
    here = shown["metadata"]["namespace"]
    assert rules["PloraDaemonAbsent"]["expr"] == f'absent(plora_build_info{{namespace="{here}"}})'


@pytest.mark.parametrize("file", sorted({*FILES} - {WATCHED}))  # which asks for it by name, and is refused
def test_without_the_operator_nothing_of_it_is_rendered(file):
    kinds = {each["kind"] for each in scene(file, operators=EVERY_OPERATOR - {"monitoring"}).values()}
    assert not kinds & {"ServiceMonitor", "PodMonitor", "PrometheusRule"}


def _is_watched(service, objects):
    monitors = of_kind(objects, "ServiceMonitor").values()
    return any(fits(m["spec"]["selector"], service["metadata"]["labels"]) for m in monitors)
