"""values.schema.json, values.yaml and the table of the README, from the typed model."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from helm.generate.values import Values

Node = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
BEGIN, END = "<!-- values: python -m helm.generate -->", "<!-- /values -->"


def schema() -> Node:
    """The whole schema, without references, each value with its default."""
    raw = Values.model_json_schema(by_alias=True)
    whole = _inlined(raw, raw.get("$defs", {}), defaults())
    whole["properties"]["global"]["properties"] = {
        "imageRegistry": {"type": "string", "description": "Registry of every image.", "default": ""},
        "imagePullSecrets": {"type": "array", "description": "Secrets for it, as [{name: ...}].", "default": []},
    }
    return {"$schema": DRAFT, **whole}


def defaults() -> Node:
    """The values of a chart that was told nothing."""
    return Values().model_dump(by_alias=True)


def schema_text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


def values_text() -> str:
    """values.yaml: every value with its description above it."""
    lines = ["# Written by `python -m helm.generate` from helm/generate/values.py: change it there."]
    lines += _commented(schema(), defaults(), 0)
    return "\n".join(lines) + "\n"


def table_text(page: str) -> str:
    """`page` with the table between its marks."""
    rows = [f"| `{path}` | `{_short(value)}` | {about} |" for path, value, about in _rows(schema(), defaults(), "")]
    table = "\n".join(["| value | default | |", "|---|---|---|", *rows])
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def _inlined(node: Node, known: Node, default: Any) -> Node:
    node = dict(node)
    if "$ref" in node:
        node = {**known[node.pop("$ref").rsplit("/", 1)[1]], **node}
    for dropped in ("title", "$defs", "default"):
        node.pop(dropped, None)
    if "allOf" in node:
        only = node.pop("allOf")
        node = {**_inlined(only[0], known, default), **node}
    if "properties" in node:
        below = default if isinstance(default, dict) else {}
        node["properties"] = {name: _inlined(each, known, below.get(name)) for name, each in node["properties"].items()}
        node.pop("required", None)
        return node
    if "anyOf" in node:
        node.update(_merged(node.pop("anyOf")))
    if "const" in node:
        node["enum"] = [node.pop("const")]
    return {**node, "default": default}


def _merged(options: list[Node]) -> Node:
    """`X or null` as one type, whose message names the path itself."""
    first = next(each for each in options if each.get("type") != "null")
    merged = {**first, "type": [first["type"], "null"]}
    if "enum" in merged:
        merged["enum"] = [*merged["enum"], None]
    return merged


def _commented(node: Node, value: Node, depth: int) -> Iterator[str]:
    pad = "  " * depth
    for name, each in node["properties"].items():
        if about := each.get("description"):
            yield f"{pad}# {about}"
        if each.get("properties") and name != "global":
            yield f"{pad}{name}:"
            yield from _commented(each, value[name], depth + 1)
        else:
            text = yaml.safe_dump({name: value[name]}, default_flow_style=False, sort_keys=False, width=1000)
            yield from (f"{pad}{line}" for line in text.rstrip("\n").split("\n"))


def _rows(node: Node, value: Node, path: str) -> Iterator[tuple[str, Any, str]]:
    for name, each in node["properties"].items():
        if each.get("properties") and name != "global":
            yield from _rows(each, value[name], f"{path}{name}.")
        else:
            yield f"{path}{name}", value[name], each.get("description", "").replace("|", "\\|")


def _short(value: Any) -> str:
    return json.dumps(value) if value is not None else "null"
