"""What a PromQL expression asks for, held against what there is: every metric, label and known value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import promql_parser

TARGET = frozenset({"cluster", "namespace", "instance", "job", "pod"})
"""Labels that a scrape adds, whatever the metric."""

VARIABLE = re.compile(r"\$\{?(\w+)(?::\w+)?\}?")
DURATIONS = {"__rate_interval": "5m", "__interval": "1m", "__range": "6h"}
LEGEND = re.compile(r"{{\s*(\w+)\s*}}")
PREFIXES = ("_bucket", "_sum", "_count")


@dataclass(frozen=True, slots=True)
class Known:
    """Metric -> its labels -> the values that are known of each; None: any value."""

    metrics: Mapping[str, Mapping[str, frozenset[str] | None]]


@dataclass(slots=True)
class Findings:
    """What an expression is, and what is wrong with it."""

    known: Known
    selectors: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def filled(expr: str, chosen: str = ".*") -> str:
    """An expression of a board as Grafana would send it: with every variable put."""
    return VARIABLE.sub(lambda found: DURATIONS.get(found[1], chosen), expr)


def look(expr: str, known: Known, legend: str = "") -> Findings:
    """Parse, and hold every name against `known`."""
    findings = Findings(known)
    try:
        tree = promql_parser.parse(expr)
    except ValueError as error:
        findings.problems.append(f"does not parse: {error}")
        return findings
    carried = _walk(tree, findings)
    findings.problems += [
        f"the legend names {each}, which no result carries" for each in LEGEND.findall(legend) if each not in carried
    ]
    return findings


def _walk(node: Any, findings: Findings) -> frozenset[str]:
    """The labels that the result of `node` may carry."""
    look_at = _BY_TYPE.get(type(node).__name__)
    return look_at(node, findings) if look_at else frozenset()


def _inside(node: Any, findings: Findings) -> frozenset[str]:
    return _walk(node.expr, findings)


def _ranged(node: Any, findings: Findings) -> frozenset[str]:
    return _selected(node.vector_selector, findings)


def _called(node: Any, findings: Findings) -> frozenset[str]:
    carried: frozenset[str] = frozenset().union(*(_walk(each, findings) for each in node.args))
    return carried - {"le"} if node.func.name == "histogram_quantile" else carried


def _selected(node: Any, findings: Findings) -> frozenset[str]:
    name = node.name
    findings.selectors.add(node.prettify().split(" offset ")[0])
    labels = findings.known.metrics.get(name)
    if labels is None:
        findings.problems.append(f"{name} is exported by nobody")
        return TARGET
    for matcher in node.matchers.matchers:
        if matcher.name not in labels and matcher.name not in TARGET:
            findings.problems.append(f"{name} has no label {matcher.name}")
        elif not _matches(matcher, labels.get(matcher.name)):
            findings.problems.append(f"no {matcher.name} of {name} is {matcher.value!r}")
    return frozenset(labels) | TARGET


def _matches(matcher: Any, values: frozenset[str] | None) -> bool:
    if values is None or str(matcher.op) not in {"MatchOp.Equal", "MatchOp.Re"}:
        return True
    if str(matcher.op) == "MatchOp.Equal":
        return matcher.value in values
    return all(any(re.fullmatch(each, value) for value in values) for each in matcher.value.split("|"))


def _aggregated(node: Any, findings: Findings) -> frozenset[str]:
    inner = _walk(node.expr, findings)
    if node.modifier is None:
        return frozenset()
    labels = frozenset(node.modifier.labels)
    findings.problems += [f"grouped by {each}, which nothing inside carries" for each in sorted(labels - inner)]
    return labels if str(node.modifier.type).endswith("By") else inner - labels


def _combined(node: Any, findings: Findings) -> frozenset[str]:
    left, right = _walk(node.lhs, findings), _walk(node.rhs, findings)
    matching = getattr(node.modifier, "matching", None)
    if matching is not None and "By" not in str(matching.type) and "On" in str(matching.type):
        missing = frozenset(matching.labels) - (left & right)
        findings.problems += [f"matched on {each}, which one side lacks" for each in sorted(missing)]
    return left | right


_BY_TYPE = {
    "VectorSelector": _selected,
    "MatrixSelector": _ranged,
    "ParenExpr": _inside,
    "UnaryExpr": _inside,
    "SubqueryExpr": _inside,
    "AggregateExpr": _aggregated,
    "BinaryExpr": _combined,
    "Call": _called,
}
