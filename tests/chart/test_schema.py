"""C2: values.yaml and its schema are one contract: closed, complete, and refusing by the path of what is wrong."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.chart.engine import CHART, LIGHT, refusal, render
from tests.chart.kube.cluster import Cluster
from tests.chart.scenes import FILES, cluster, overlay, scene, values
from tests.chart.typos import TYPOS

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
OPEN = {"/global"}  # beside free maps: what an umbrella chart shares with all its charts
JUDGE = jsonschema.Draft202012Validator(SCHEMA)


def test_every_object_of_the_schema_is_closed_or_a_free_map():
    for path, node in nodes(SCHEMA):
        if "properties" in node and path not in OPEN:
            assert node.get("additionalProperties") is False, path
        elif node.get("type") == "object" and "properties" not in node and path not in OPEN:
            assert node.get("additionalProperties") is not False, path


def test_the_values_have_exactly_the_paths_of_the_schema():
    assert sorted(leaves(VALUES)) == sorted(path for path, node in nodes(SCHEMA) if is_leaf(path, node))


def test_every_value_is_described_and_has_the_default_of_the_schema():
    found = leaves(VALUES)
    for path, node in nodes(SCHEMA):
        if is_leaf(path, node):
            assert node.get("description"), path
            assert node["default"] == found[path], path


def test_the_schema_is_one_and_takes_the_defaults():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert list(JUDGE.iter_errors(VALUES)) == []


@pytest.mark.parametrize("file", FILES)
def test_the_schema_takes_every_values_file(file):
    assert [error.message for error in JUDGE.iter_errors(overlay(VALUES, values(file)))] == []


def test_a_slip_of_the_keys_is_refused_at_every_path():
    chance = random.Random(20)
    for path, node in nodes(SCHEMA):
        name = path.rsplit("/", 1)[1] if path else ""
        if not is_leaf(path, node) or len(name) < 3:
            continue
        at = chance.randrange(len(name) - 1)
        slipped = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
        if slipped == name:
            slipped = name + "s"
        parent = path.rsplit("/", 1)[0]
        found = [_place(error) for error in JUDGE.iter_errors(placed(parent, {slipped: 1}))]
        assert parent in found, f"{parent}/{slipped}"


@pytest.mark.parametrize(("typo", "path"), TYPOS, ids=[json.dumps(typo) for typo, _ in TYPOS])
def test_a_typing_error_is_refused_with_its_path(typo, path):
    said = refusal(Cluster(), typo)
    where = f"at '{path}'" if path.startswith("/") else f"additional properties '{path}' not allowed"
    assert where in said


def test_an_umbrella_chart_shares_global_and_switches_by_enabled(tmp_path):
    (tmp_path / "Chart.yaml").write_text(
        "apiVersion: v2\nname: umbrella\nversion: 1.0.0\ndependencies:\n"
        f"  - {{name: plora, version: {META['version']!r}, condition: plora.enabled}}\n"
    )
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "plora").symlink_to(LIGHT)
    file = FILES[0]
    shared = {"somebodyElses": {"region": "north"}}
    chosen = {"global": shared, "plora": values(file) | {"enabled": True}}
    assert set(render(cluster(chosen), chosen, chart=tmp_path)) == set(scene(file))
    assert render(Cluster(), overlay(chosen, {"plora": {"enabled": False}}), chart=tmp_path) == {}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, schema) of every value that the schema names; what is under `global` is shared with other charts."""
    yield path, schema
    for name, each in (schema.get("properties", {}) if path not in OPEN else {}).items():
        yield from nodes(each, f"{path}/{name}")


def is_leaf(path: str, node: dict[str, Any]) -> bool:
    return path != "" and not node.get("properties") and path not in {"/global", "/enabled"}


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Path to value of everything that values.yaml sets: lists and free maps are values."""
    if path in {"/global", "/enabled"}:
        return {}
    if isinstance(node, dict) and NAMED.get(path, {}).get("properties"):
        return {deep: value for name, each in node.items() for deep, value in leaves(each, f"{path}/{name}").items()}
    return {path: node}


def placed(path: str, value: Any) -> dict[str, Any]:
    for step in reversed(path.strip("/").split("/") if path else []):
        value = {step: value}
    return value


def _place(error: jsonschema.ValidationError) -> str:
    return "".join(f"/{step}" for step in error.absolute_path)


META = yaml.safe_load(Path(CHART / "Chart.yaml").read_text())
NAMED = dict(nodes(SCHEMA))
