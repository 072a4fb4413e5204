"""Write down what a running Ray exports: `python -m tests.dashboards.recording OUT.json URL...`.

Ask the head's metrics port, its autoscaler's (44217) and its dashboard's (44227), while an application of
Ray Serve answers requests. What needs a GPU is added from the tables of Ray's own source.
"""

import importlib.metadata
import json
import sys
import urllib.request
from collections import defaultdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

GPU = ("ray_node_gpus_utilization", "ray_node_gram_used", "ray_node_gram_available")
GPU_LABELS = ("GpuDeviceName", "GpuIndex", "GpuUuid", "IsHeadNode", "RayNodeType", "SessionName", "Version", "ip")
"""As `ray/dashboard/consts.py` has them: the list is recorded on a machine without a GPU."""


def labels_of(pages: list[str]) -> dict[str, list[str]]:
    """Sample name -> its labels, without those of the exporter itself."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                found[sample.name] |= {each for each in sample.labels if not each.startswith("otel_scope")}
    for name in GPU:
        found[name] |= set(GPU_LABELS)
    return {name: sorted(found[name]) for name in sorted(found) if name.startswith(("ray_", "autoscaler_"))}


def main(out: str, *urls: str) -> None:
    """Write the list."""
    pages = [urllib.request.urlopen(each, timeout=30).read().decode() for each in urls]  # noqa: S310 - our own Ray
    lines = [f"{json.dumps(name)}: {json.dumps(labels)}" for name, labels in labels_of(pages).items()]
    version = json.dumps(importlib.metadata.version("ray"))
    Path(out).write_text('{"ray": ' + version + ', "metrics": {\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
