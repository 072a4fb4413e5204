"""Policies and limits are plain values that reach the daemon unchanged: what a pod's environment says of each.

The daemon itself reads the same environments in `arrival/test_arrival.py`, where its packages are installed;
`python -m tests.chart.test_settings` writes them again.
"""

import json
from pathlib import Path

from tests.chart.agreement import workloads
from tests.chart.kube.cluster import environment
from tests.chart.scenes import FILES, of_kind, scene

ENVIRONMENTS = Path(__file__).with_name("arrival") / "environments.json"
VALUES = ENVIRONMENTS.with_name("values.json")
FULL = "everything"  # the values file with consumers, on which the values of arrival/ are laid


def environments():
    """Values file to workload to its PLORA_* variables; the database's address is in a Secret, and left out."""
    found = {file: _of(scene(file)) for file in FILES}
    return found | {"chosen": _of(scene(FULL, json.loads(VALUES.read_text()) | {"ray": {"spoolClaim": "shared"}}))}


def test_what_every_pod_is_told_is_what_the_daemon_was_shown():
    assert environments() == json.loads(ENVIRONMENTS.read_text()), "run python -m tests.chart.test_settings"


def test_consumers_reach_the_daemon_inside_the_cluster():
    told = _of(scene(FULL))["deployments/rel-plora-ingest"]
    assert told["PLORA_URL"] == "http://rel-plora:8470"


def test_no_number_is_printed_as_helm_prints_large_ones():
    for file, pods in environments().items():
        for place, told in pods.items():
            assert not any("e+" in value for value in told.values()), f"{file}: {place}"


def _of(objects):
    configs = {m["metadata"]["name"]: m.get("data", {}) for m in of_kind(objects, "ConfigMap").values()}
    found = {}
    for place, _, _ in workloads(objects):
        if place.startswith(("deployments/", "jobs/")):
            told = environment(objects[place], configs)
            found[place] = {
                k: v for k, v in sorted(told.items()) if k.startswith("PLORA_") and not v.startswith("secret:")
            }
    return found


if __name__ == "__main__":
    ENVIRONMENTS.write_text(json.dumps(environments(), indent=1) + "\n", encoding="utf-8")
