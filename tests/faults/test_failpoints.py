"""Failpoints: there are enough, they are nothing in production, and after a death at any of them all is well."""

import marshal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.failpoints import POINT, ROOT, changed, points
from tests.faults.killing import POINTS
from tests.faults.zygote import Zygote, zygote

CHILD = ("storage", "tests.faults.scenarios", "tests.faults.stages")
STAGES = {
    "forget": ("forget-before-commit", "forget-before-export", "forget-before-scrub"),
    "rotate": ("rotate-before-primary", "rotate-before-batch", "rotate-before-destroy"),
    "basis": ("blob-before-rename", "blob-before-directory-sync", "basis-before-row"),
    "finish": ("finish-before-commit",),
    "ingest": ("ingest-before-commit",),
    "upkeep": ("upkeep",),
}


@pytest.fixture(scope="module")
def stores() -> Iterator[Zygote]:
    with zygote() as first:
        yield first.variant(CHILD)


def test_every_point_that_a_suite_names_is_in_the_code():
    known = points()
    named = {*POINTS, *(name for names in STAGES.values() for name in names)}
    assert named <= set(known)
    assert len(known) >= 10


def test_a_point_is_nothing_to_production():
    for path in set(points().values()):
        source = (ROOT / path).read_text()
        without = POINT.sub(lambda match: match["indent"] + "# nothing", source)
        assert marshal.dumps(compile(source, path, "exec")) == marshal.dumps(compile(without, path, "exec"))
        assert changed(path, source, ()) != source


def test_production_never_imports_the_hook():
    code = (
        "import sys, daemon.service; print([name for name in sys.modules if name.startswith('tests')], sys.meta_path)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.startswith("[] ")
    assert "tests" not in told


@pytest.mark.parametrize(("stage", "point"), [(stage, point) for stage, names in STAGES.items() for point in names])
def test_a_death_at_any_point_leaves_nothing_half_done(stores, tmp_path: Path, stage, point):
    folder = str(tmp_path / "root")
    assert stores.call("tests.faults.stages:prepare", folder=folder, log=tmp_path / "log")
    died = stores.call("tests.faults.stages:die", folder=folder, stage=stage, point=point, log=tmp_path / "log")
    assert died is None, f"{point} was not reached"
    assert stores.call("tests.faults.stages:recover", folder=folder, stage=stage, log=tmp_path / "log") == []
