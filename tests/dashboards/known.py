"""What can be asked for: the daemon's own registry, what Ray exported when it was recorded, and our recorded rules."""

import json
from pathlib import Path

from daemon.metric_table import ROWS, Kind
from helm.generate import rules
from tests.dashboards.promql import Known

RAY = Path(__file__).with_name("ray-2.60.0.json")
ALERTS = {"ALERTS": {"alertname": None, "alertstate": frozenset({"firing", "pending"}), "severity": None}}
Labels = dict[str, frozenset[str] | None]


def known() -> Known:
    """All of it."""
    return Known({**of_the_daemon(), **of_ray(), **of_the_rules(), **ALERTS, "up": {}})


def of_ray() -> dict[str, Labels]:
    """Recorded by `recording.py`, of the version that its name states."""
    return {name: dict.fromkeys(labels) for name, labels in json.loads(RAY.read_text())["metrics"].items()}


def of_the_rules() -> dict[str, Labels]:
    """What our own rules record."""
    recorded: dict[str, Labels] = {}
    for group in rules.groups():
        for rule in group["rules"]:
            if "record" in rule:
                recorded.setdefault(rule["record"], {"slo": frozenset()})
                recorded[rule["record"]]["slo"] |= {rule["labels"]["slo"]}
    return recorded


def of_the_daemon() -> dict[str, Labels]:
    """Every sample that a row of the daemon's table becomes, of the consumers of brokers too."""
    found: dict[str, Labels] = {}
    for row in ROWS:
        labels = {name: frozenset(values) if values else None for name, values in row.labels.items()}
        if row.kind is Kind.HISTOGRAM:
            ends = frozenset({*(repr(float(each)) for each in row.buckets), "+Inf"})
            found[f"{row.exported}_bucket"] = labels | {"le": ends}
            found[f"{row.exported}_sum"] = found[f"{row.exported}_count"] = labels
        else:
            found[row.exported] = labels
    return found


def bounds() -> dict[str, tuple[float, ...]]:
    """Histogram -> its buckets' bounds, without the last."""
    return {row.exported: row.buckets for row in ROWS if row.kind is Kind.HISTOGRAM}
