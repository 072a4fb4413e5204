"""Takes the schemas of custom resources out of checkouts of their operators: `python gather.py FOLDER`.

FOLDER holds clones named as in SOURCES below. Kept is what a validator needs: descriptions go, and so do columns.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PROMETHEUS = "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml"
SOURCES = {  # our file: clone, tag, path
    **{
        f"rayservice-{tag}": ("kuberay", f"v{tag}", "ray-operator/config/crd/bases/ray.io_rayservices.yaml")
        for tag in ("1.4.2", "1.5.1", "1.6.2", "1.7.0")
    },
    **{
        name: ("prometheus-operator", "v0.93.0", PROMETHEUS.format(f"{name}s"))
        for name in ("servicemonitor", "podmonitor", "prometheusrule")
    },
    **{
        name: ("keda", "v2.20.2", f"config/crd/bases/keda.sh_{name}s.yaml")
        for name in ("scaledobject", "triggerauthentication")
    },
}
SAID = ("description", "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type", "example")


def trim(node: Any, *, is_schema: bool = True) -> Any:
    """`node` without what only readers need; a property that is itself called `description` stays."""
    if isinstance(node, list):
        return [trim(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {name: value for name, value in node.items() if not (is_schema and name in SAID)}
    return {
        name: value if name in ("default", "enum") and is_schema else trim(value, is_schema=name != "properties")
        for name, value in kept.items()
    }


def main(folder: Path) -> None:
    for name, (clone, tag, path) in SOURCES.items():
        shown = subprocess.run(["git", "-C", folder / clone, "show", f"{tag}:{path}"], capture_output=True, check=True)
        spec = yaml.load(shown.stdout, yaml.CSafeLoader)["spec"]
        kept = {
            "group": spec["group"],
            "kind": spec["names"]["kind"],
            "versions": {each["name"]: trim(each["schema"]["openAPIV3Schema"]) for each in spec["versions"]},
        }
        raw = json.dumps(kept, separators=(",", ":"), sort_keys=True).encode()
        (HERE / f"{name}.json.gz").write_bytes(gzip.compress(raw, 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
