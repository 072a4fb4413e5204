"""C13: one file without dependencies, the same bytes from every checkout, signed, and described for who finds it."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from helm.generate import package
from tests.chart import engine
from tests.chart.engine import CHART, ROOT, refusal, releasing, render
from tests.chart.kube.cluster import Cluster
from tests.chart.scenes import FILES, cluster, scene, values

META = yaml.safe_load((CHART / "Chart.yaml").read_text())
WANTED = ("changes", "images", "license", "links", "prerelease", "recommendations", "category")


@pytest.fixture
def checkouts(tmp_path: Path) -> list[Path]:
    """The chart twice, checked out at different times by people with different masks."""
    found = []
    for number, mode in enumerate((0o600, 0o664)):
        found.append(shutil.copytree(CHART, tmp_path / str(number) / "helm"))
        for file in filter(Path.is_file, found[-1].rglob("*")):
            file.chmod(mode)
            os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
    return found


def test_two_checkouts_give_the_same_archive(checkouts, tmp_path):
    first, second = (package.pack(each, tmp_path / f"out{n}") for n, each in enumerate(checkouts))
    assert first.read_bytes() == second.read_bytes()
    digest, name = (tmp_path / "out0" / "SHA256SUMS").read_text().split()
    assert (digest, name) == (hashlib.sha256(first.read_bytes()).hexdigest(), first.name)


def test_the_archive_holds_what_helm_would_pack_and_renders_the_same(tmp_path):
    packed = package.pack(CHART, tmp_path)
    helms = engine.package(CHART, tmp_path / "helm")
    assert _names(packed) == _names(helms)
    assert not any(re.search(r"/(generate|ci)/|\.py$|\.png$", name) for name in _names(packed))
    file = FILES[0]
    assert _specs(render(cluster(values(file)), values(file), chart=packed)) == _specs(scene(file, chart=CHART))


def test_the_provenance_file_is_good_and_a_changed_one_is_found(tmp_path):
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", str(home))
    make = [*gpg, "--batch", "--passphrase", "", "--quick-generate-key", "release@example.org", "ed25519", "sign"]
    subprocess.run(make, check=True, capture_output=True)
    key = package.fingerprint("release@example.org", gpg)
    packed = package.pack(CHART, tmp_path, key=key)
    signed = package.sign(CHART, packed, key, gpg)
    read = [*gpg, "--batch", "--decrypt", signed]
    described, listed = subprocess.run(read, check=True, capture_output=True, text=True).stdout.split("\n...\n")
    named = yaml.safe_load(described)
    assert yaml.safe_load(named["annotations"].pop("artifacthub.io/signKey"))["fingerprint"] == key
    assert named == META
    with tarfile.open(packed) as archive:
        assert archive.extractfile("plora/Chart.yaml").read().decode().strip() == described.strip()
    assert yaml.safe_load(listed)["files"] == {packed.name: f"sha256:{hashlib.sha256(packed.read_bytes()).hexdigest()}"}
    signed.write_text(signed.read_text().replace("sha256:", "sha256:0"))
    assert subprocess.run(read, capture_output=True, check=False).returncode != 0
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


def test_a_release_fits_into_what_a_cluster_stores():
    made = cluster(values("everything"))
    with releasing(made) as release:
        release.install(values("everything"), chart=CHART)
    assert made.release_bytes() < 700_000, "Helm keeps each revision in one Secret of at most 1 MiB"


def test_the_chart_says_what_it_is():
    assert "dependencies" not in META
    assert not (CHART / "charts").exists()
    assert META["apiVersion"] == "v2"
    assert META["type"] == "application"
    notes = {name.removeprefix("artifacthub.io/"): text for name, text in META["annotations"].items()}
    assert set(WANTED) <= set(notes)
    for name in ("changes", "images", "links", "recommendations"):
        assert yaml.safe_load(notes[name]), name
    assert all("description" in each for each in yaml.safe_load(notes["changes"]))


def test_the_changes_are_told_where_people_look():
    told = (CHART / "CHANGELOG.md").read_text()
    assert f"## {META['version']}" in told
    assert "# " in (CHART / "UPGRADING.md").read_text()
    for each in yaml.safe_load(META["annotations"]["artifacthub.io/changes"]):
        assert each["description"] in told, each["description"]


def test_an_old_kubernetes_is_refused_before_anything_is_written():
    made = Cluster("1.28")
    assert "kubeVersion" in refusal(made, values(FILES[0]))
    assert made.objects() == {}


@pytest.mark.parametrize("file", FILES)
def test_helm_test_asks_the_daemon(file):
    made = cluster(values(file))
    with releasing(made) as release:
        release.install(values(file))
        release.test()
    assert [place for _, place in made.writes if place.startswith("pods/")]


def _names(packed: Path) -> set[str]:
    with tarfile.open(packed) as archive:
        return {member.name for member in archive.getmembers() if member.isfile()}


def _specs(objects):
    return {place: {k: v for k, v in each.items() if k != "metadata"} for place, each in objects.items()}


def test_the_version_of_the_chart_is_the_projects():
    project = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project
    assert META["appVersion"] == project[1]
