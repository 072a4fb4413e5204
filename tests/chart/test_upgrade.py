"""C4: every release that was ever given out becomes this one, and what did not change stays as it is."""

import re
import shutil
from pathlib import Path

import helm_sdkpy
import pytest

from tests.chart import strict
from tests.chart.engine import CHART, LIGHT, releasing
from tests.chart.kube.cluster import Cluster
from tests.chart.kube.rules import pods
from tests.chart.scenes import FILES, of_kind, outside, values

RELEASED = tuple(sorted((Path(__file__).parent / "released").glob("*.tgz")))
KEPT = ("spec", "data", "roleRef", "rules", "subjects", "webhooks")


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """This chart under the next version: nothing else differs."""
    chart = shutil.copytree(LIGHT, tmp_path / "helm")
    meta = chart / "Chart.yaml"
    meta.write_text(re.sub(r"^version: .*$", "version: 99.0.0", meta.read_text(), flags=re.MULTILINE))
    return chart


@pytest.fixture
def other_selector(tmp_path: Path) -> Path:
    """This chart as somebody might have released it: its selectors hold the version."""
    chart = shutil.copytree(LIGHT, tmp_path / "helm")
    helpers = chart / "templates" / "_helpers.tpl"
    text = helpers.read_text()
    assert "app.kubernetes.io/component:" in text
    helpers.write_text(text.replace("app.kubernetes.io/component:", "app.kubernetes.io/part:"))
    return chart


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("archive", RELEASED, ids=lambda archive: archive.stem)
def test_every_released_chart_becomes_this_one(archive, file):
    made = Cluster(outside=outside(values(file)), check=strict.flaws)
    with releasing(made) as release:
        release.install(values(file), chart=archive)
        before = made.objects()
        release.upgrade(values(file), chart=CHART)
    changed = [place for place, each in made.objects().items() if _pods(each) != _pods(before.get(place, each))]
    told = (CHART / "UPGRADING.md").read_text()
    version = re.search(r"-(\d.*)$", archive.stem)
    assert version
    assert not changed or f"From {version[1]}" in told, (
        f"pods of {changed} are replaced, and UPGRADING.md does not say so"
    )


@pytest.mark.parametrize("file", FILES)
def test_the_same_again_under_a_new_version_changes_only_the_label_of_the_chart(file, newer):
    made = Cluster(outside=outside(values(file)))
    with releasing(made) as release:
        release.install(values(file))
        before = made.objects()
        release.upgrade(values(file), chart=newer)
        after = made.objects()
    assert _without_hooks(before) == _without_hooks(after)
    for place, each in after.items():
        if place in before and "helm.sh/chart" in each["metadata"]["labels"]:
            labels, old = each["metadata"]["labels"], before[place]["metadata"]["labels"]
            assert {name for name in labels if labels[name] != old.get(name)} <= {"helm.sh/chart"}, place


@pytest.mark.parametrize("file", FILES)
def test_a_failed_upgrade_gives_back_the_exact_old_objects(file):
    made = Cluster(outside=outside(values(file)))
    with releasing(made) as release:
        release.install(values(file))
        before = made.objects()
        known = {place: _sum(each) for place, each in of_kind(before, "Deployment").items()}
        made.check = lambda new: (
            ["another sum"] if new["kind"] == "Deployment" and _sum(new) not in known.values() else []
        )
        with pytest.raises(helm_sdkpy.UpgradeError, match="rolled back"):
            release.upgrade(values(file, {"settings": {"trigger": {"minFresh": 17}}}), rollback=True)
    assert _without_hooks(made.objects()) == _without_hooks(before)


def test_a_release_with_other_selectors_would_be_refused(other_selector):
    made = Cluster(outside=outside(values(FILES[0])))
    with releasing(made) as release:
        release.install(values(FILES[0]), chart=other_selector)
        with pytest.raises(helm_sdkpy.UpgradeError, match="field is immutable"):
            release.upgrade(values(FILES[0]))


def test_an_operator_can_move_from_one_shape_to_another_and_back():
    """No object of one values file stands in the way of another's."""
    made = Cluster(outside=outside([values(file) for file in FILES]))
    with releasing(made) as release:
        release.install(values(FILES[0]))
        for file in [*FILES[1:], *reversed(FILES[:-1])]:
            release.upgrade(values(file))


def _pods(manifest):
    return [pod["spec"] for pod in pods(manifest)]


def _without_hooks(objects):
    kept = {p: e for p, e in objects.items() if "helm.sh/hook" not in e["metadata"].get("annotations", {})}
    return {place: {name: each[name] for name in KEPT if name in each} for place, each in kept.items()}


def _sum(deployment):
    return deployment["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
