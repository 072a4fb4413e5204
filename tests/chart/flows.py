"""Which pod may speak to which, by the network policies of one rendering: both ends must allow it."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.chart.agreement import Labels, fits
from tests.chart.kube.rules import Manifest

Ports = Mapping[str, int]


def may_speak(objects: Mapping[str, Manifest], source: Labels, target: Labels, port: int, named: Ports) -> bool:
    """Whether a pod with labels `source` may open `port` of one with `target`; `named` are the target's named ports."""
    out = any(_takes(rule, "to", target, port, named) for rule in _rules(objects, source, "Egress"))
    return out and any(_takes(rule, "from", source, port, named) for rule in _rules(objects, target, "Ingress"))


def may_leave(objects: Mapping[str, Manifest], source: Labels, port: int) -> bool:
    """Whether a pod may reach `port` of some address outside the namespace."""
    for rule in _rules(objects, source, "Egress"):
        if _has_port(rule, port, {}) and any("ipBlock" in peer or "namespaceSelector" in peer for peer in _peers(rule)):
            return True
        if not rule.get("to") and _has_port(rule, port, {}):
            return True
    return False


def _rules(objects: Mapping[str, Manifest], labels: Labels, direction: str) -> Iterator[Manifest]:
    """The rules that hold for a pod; where no policy of that direction takes it, one rule that allows all."""
    policies = [each["spec"] for each in objects.values() if each["kind"] == "NetworkPolicy"]
    holding = [p for p in policies if direction in p["policyTypes"] and fits(p["podSelector"], labels)]
    if not holding:
        yield {}
    for policy in holding:
        yield from policy.get(direction.lower()) or []


def _peers(rule: Manifest) -> list[Manifest]:
    return rule.get("to") or []


def _takes(rule: Manifest, side: str, labels: Labels, port: int, named: Ports) -> bool:
    peers: list[Any] = rule.get(side) or []
    in_here = [p for p in peers if "podSelector" in p and "namespaceSelector" not in p]
    is_peer = not peers or any(fits(peer["podSelector"], labels) for peer in in_here)
    return is_peer and _has_port(rule, port, named)


def _has_port(rule: Manifest, port: int, named: Ports) -> bool:
    if not rule.get("ports"):
        return True
    for each in rule["ports"]:
        first = each.get("port")
        first = named.get(first, -1) if isinstance(first, str) else first
        if first is None or first <= port <= each.get("endPort", first):
            return True
    return False
