"""C9: selectors find pods, ports have names, what is mounted exists, and every image moves with the registry."""

import re

import pytest

from tests.chart import agreement
from tests.chart.agreement import workloads
from tests.chart.scenes import FILES, outside, scene, values

DIGEST, OTHER = (f"sha256:{digits * 4}" for digits in ("0123456789abcdef", "fedcba9876543210"))


@pytest.mark.parametrize("file", FILES)
def test_objects_agree(file):
    assert agreement.flaws(scene(file), outside(values(file))) == []


@pytest.mark.parametrize("file", FILES)
def test_every_object_says_whose_it_is(file):
    for place, each in scene(file).items():
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "rel", place
        assert labels["app.kubernetes.io/managed-by"] == "Helm", place
        assert labels["helm.sh/chart"].startswith("plora-"), place
        assert labels["app.kubernetes.io/part-of"] == "plora", place
        assert each["metadata"].get("namespace", "plora-system") == "plora-system", place


@pytest.mark.parametrize("file", FILES)
def test_no_image_escapes_the_registry(file):
    for place, image in images(scene(file, {"global": {"imageRegistry": "registry.local:5000/mirror"}})):
        assert image.startswith("registry.local:5000/mirror/"), f"{place}: {image}"


def test_a_digest_pins_every_image():
    chosen = {"image": {"digest": DIGEST, "gpuDigest": OTHER}}
    found = dict(images(scene("everything", chosen)))
    assert found
    for place, image in found.items():
        assert image.endswith(f"@{OTHER if '/gpu' in place else DIGEST}"), place


@pytest.mark.parametrize("file", FILES)
def test_no_selector_holds_what_changes_with_a_release(file):
    for place, each in scene(file).items():
        selector = each.get("spec", {}).get("selector") or {}
        assert not re.search(r"helm.sh/chart|app.kubernetes.io/version", str(selector)), place


def images(objects):
    """(where, image) of every container, and of what the operator would start beside one."""
    for place, _, spec in workloads(objects):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield f"{place}/{container['name']}", container["image"]
    for place, each in objects.items():
        if image := each.get("spec", {}).get("rayClusterConfig", {}).get("autoscalerOptions", {}).get("image"):
            yield f"{place}/autoscaler", image
