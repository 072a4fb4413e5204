"""A4: every seeded mutant is found, and the code as it is passes the very same histories."""

import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.failpoints import ROOT, MutantMissed
from tests.faults.figures import record
from tests.faults.mutants import MUTANTS, POWER, Mutant
from tests.faults.powerloss import STORAGE_CHILD, lose_power, recorder
from tests.faults.zygote import Zygote, zygote

CHILD = (*STORAGE_CHILD, "tests.faults.scenarios")
STATES, STEPS = 16, 16
AT_ONCE = 2


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Iterator[Zygote]:
    with zygote(recorder(tmp_path_factory.mktemp("recorder"))) as server:
        yield server


@pytest.fixture(scope="module")
def sound(first) -> Zygote:
    return first.variant(CHILD)


def findings(acting: Zygote, sound: Zygote, folder: Path, parts: Sequence[str]) -> list[str]:
    """What the history shows of the code in `acting`. A part that begins dies by its own hand."""
    folder.mkdir()
    if parts == (POWER,):
        return list(lose_power(acting, sound, folder, states=STATES, steps=STEPS, seed=7)["broken"])
    found: list[str] = []
    for part in parts:
        try:
            told = acting.call(f"tests.faults.scenarios:{part}", folder=str(folder / "root"), log=folder / "log")
        except AssertionError as problem:
            return [*found, "does not open", str(problem)]
        found += ["did not come to its point"] if told is None and not part.startswith("begin") else told or []
    return found


def test_the_code_as_it_is_passes_every_history(sound, tmp_path):
    histories = sorted({each.shown_by for each in MUTANTS} - {(POWER,)})  # that one is A3
    for number, parts in enumerate(histories):
        assert findings(sound, sound, tmp_path / str(number), parts) == [], parts


def test_every_mutant_is_found(first, sound, tmp_path):
    def found(numbered: tuple[int, Mutant]) -> list[str]:
        number, mutant = numbered
        return findings(first.variant(CHILD, mutant.changes), sound, tmp_path / str(number), mutant.shown_by)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = list(pool.map(found, enumerate(MUTANTS)))
    missed = {mutant.name: told for mutant, told in zip(MUTANTS, told, strict=True) if mutant.sign not in told}
    record("A4", secrets.randbits(32), mutants=len(MUTANTS), found=len(MUTANTS) - len(missed))
    assert not missed


def test_a_mutant_whose_source_has_moved_fails():
    for mutant in MUTANTS:
        for change in mutant.changes:
            source = (ROOT / change.path).read_text()
            assert change.applied(source) != source
            with pytest.raises(MutantMissed):
                change.applied(source.replace(change.old, ""))
