"""What the tests look at: the chart rendered with each values file of `helm/ci`, in a cluster of a stated kind."""

import copy
import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.chart.engine import CHART, LIGHT, render
from tests.chart.kube.cluster import Cluster
from tests.chart.kube.kinds import EVERY_OPERATOR
from tests.chart.kube.rules import Manifest

Values = dict[str, Any]
FILES = tuple(sorted(file.stem for file in (CHART / "ci").glob("*.yaml")))
SECRET = re.compile(r"secret(name)?$", re.IGNORECASE)


def values(name: str, extra: Values | None = None) -> Values:
    """The values of `helm/ci/NAME.yaml`, with `extra` laid over them."""
    return overlay(_file(name), extra or {})


def overlay(base: Values, extra: Values) -> Values:
    out = copy.deepcopy(base)
    for name, value in extra.items():
        both = isinstance(value, dict) and isinstance(out.get(name), dict)
        out[name] = overlay(out[name], value) if both else copy.deepcopy(value)
    return out


def scene(
    name: str,
    extra: Values | None = None,
    *,
    version: str = "1.31",
    operators: Iterable[str] = EVERY_OPERATOR,
    chart: Path = LIGHT,
) -> dict[str, Manifest]:
    """Every object of the chart with those values, once for each question."""
    return json.loads(_scene(name, json.dumps(extra or {}, sort_keys=True), version, frozenset(operators), chart))


def cluster(chosen: Values, version: str = "1.31", operators: Iterable[str] = EVERY_OPERATOR) -> Cluster:
    """A cluster in which the operator has made what `chosen` names."""
    return Cluster(version, operators, outside=outside(chosen))


def outside(node: Any) -> frozenset[str]:
    """What the values say exists already: every secret and claim that they name."""
    return frozenset(_outside(node))


@functools.cache
def _file(name: str) -> Values:
    return yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text()) or {}


@functools.cache
def _scene(name: str, extra: str, version: str, operators: frozenset[str], chart: Path) -> str:
    chosen = values(name, json.loads(extra))
    return json.dumps(render(cluster(chosen, version, operators), chosen, chart=chart))


def _outside(node: Any, above: str = "") -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _outside(each, above)
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        if isinstance(value, str) and value and (SECRET.search(name) or (name == "name" and SECRET.search(above))):
            yield f"secrets/{value}"
        elif isinstance(value, str) and value and name.endswith("Claim"):
            yield f"persistentvolumeclaims/{value}"
        else:
            yield from _outside(value, name)


def of_kind(objects: dict[str, Manifest], *kinds: str) -> dict[str, Manifest]:
    return {place: each for place, each in objects.items() if each["kind"] in kinds}
