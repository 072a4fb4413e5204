"""Whether a cluster would take an object as it stands: no unknown field, every value of its type.

Built-in kinds are judged by the schemas of each Kubernetes release, custom ones by those of crds/SOURCES.md.
"""

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import referencing

CRDS = Path(__file__).with_name("crds")
KUBERNETES = ("1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
KUBERAY = ("1.4.2", "1.5.1", "1.6.2", "1.7.0")
RAY = "ray.io/v1"


def flaws(manifest: dict[str, Any], *, kubernetes: str = "1.31", kuberay: str = "1.7.0") -> list[str]:
    """What is wrong with `manifest`, each flaw with its path."""
    named = manifest["apiVersion"], manifest["kind"]
    judge = _custom(kuberay).get(named) or _built_in(*named, kubernetes)
    if judge is None:
        return [f"no schema of {named} in Kubernetes {kubernetes}"]
    return [_said(error.absolute_path, error.message) for error in judge.iter_errors(manifest)]


def _said(path: Any, text: str) -> str:
    return f"{'.'.join(map(str, path))}: {text[:200]}"


@functools.cache
def _built_in(api_version: str, kind: str, kubernetes: str) -> jsonschema.Draft202012Validator | None:
    """By the strict schemas that kubernetes-validate brings; its own `validate` reads them anew for every object."""
    group, _, version = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.split(".")[0], version)))
    file = _folder(kubernetes) / f"{name}.json"
    if not file.is_file():
        return None
    schema = json.loads(file.read_text())
    registry = referencing.Resource.from_contents(schema) @ _definitions(kubernetes)
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.cache
def _definitions(kubernetes: str) -> referencing.Registry:
    read = json.loads((_folder(kubernetes) / "_definitions.json").read_text())
    return referencing.Resource.from_contents(read) @ referencing.Registry()


def _folder(kubernetes: str) -> Path:
    package = Path(kubernetes_validate.__file__).parent
    return package / "kubernetes-json-schema" / f"v{kubernetes}.0-local-strict"


@functools.cache
def _custom(kuberay: str) -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    found = {}
    for file in sorted(CRDS.glob("*.json.gz")):
        if file.name.startswith("rayservice") and kuberay not in file.name:
            continue
        found.update(_judges(file))
    return found


@functools.cache
def _judges(file: Path) -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    crd = json.loads(gzip.decompress(file.read_bytes()))
    judges = {}
    for version, schema in crd["versions"].items():
        closed = _close(schema)
        closed["properties"] |= {
            "metadata": {"type": "object"},
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
        }
        judges[f"{crd['group']}/{version}", crd["kind"]] = jsonschema.Draft202012Validator(closed)
    return judges


def _close(schema: Any) -> Any:
    """A structural schema that refuses what the API server would prune, or would refuse by strict field validation."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    if closed.pop("x-kubernetes-int-or-string", None):
        closed.pop("anyOf", None)
        closed["type"] = ["integer", "string"]
    if closed.pop("nullable", None) and isinstance(closed.get("type"), str):
        closed["type"] = [closed["type"], "null"]
    if "properties" in closed:
        closed["properties"] = {name: _close(each) for name, each in closed["properties"].items()}
        if not closed.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    for name in ("items", "additionalProperties"):
        if isinstance(closed.get(name), dict):
            closed[name] = _close(closed[name])
    return closed
