"""C13: a migration that is killed leaves the old schema or the new one, with everything in it."""

import random
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.failpoints import ROOT
from tests.faults.figures import record
from tests.faults.zygote import Zygote, zygote

REVISIONS = sorted(path.stem for path in (ROOT / "storage/migrations/versions").glob("0*.py"))[:-1]
SHORT = 5


@pytest.fixture(scope="module")
def stores() -> Iterator[Zygote]:
    with zygote() as first:
        yield first.variant(("storage", "tests.faults.upgrades"))


def killed(stores: Zygote, folder: Path, revision: str, most: int | None, seed: int) -> int:
    """Kill at `most` of the statements, or at each; how many."""
    original = folder / "original"
    revision = revision[:4]
    assert stores.call("tests.faults.upgrades:old", folder=str(original), revision=revision, log=folder / "log") == 18
    shutil.copytree(original, folder / "counted")
    statements = stores.call("tests.faults.upgrades:migrate", folder=str(folder / "counted"), die_at=0)
    chosen = range(1, statements + 1)
    for number in chosen if most is None else sorted(random.Random(seed).sample(chosen, most)):
        root = folder / f"killed-{number}"
        shutil.copytree(original, root)
        assert stores.call("tests.faults.upgrades:migrate", folder=str(root), die_at=number) is None
        assert stores.call("tests.faults.upgrades:look", folder=str(root), revision=revision) == []
        shutil.rmtree(root)
    return statements if most is None else most


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_killed_migration_leaves_the_old_schema_or_the_new(stores, tmp_path, revision):
    killed(stores, tmp_path, revision, SHORT, secrets.randbits(32))


@pytest.mark.long
def test_a_migration_killed_at_every_statement_leaves_the_old_schema_or_the_new(stores, tmp_path):
    kills = sum(killed(stores, tmp_path / each, each, None, 0) for each in REVISIONS if not (tmp_path / each).mkdir())
    record("C13", 0, kills=kills, full=True)
