"""The power loss replay: a life of a store is recorded, then recovered from states that a crash could have left."""

import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.stores import sums
from tests.faults.zygote import Zygote

SOURCE = Path(__file__).with_name("recorder.c")
STORAGE_CHILD = ("storage", "tests.faults.stores")
AT_ONCE = 2


def recorder(folder: Path) -> Path:
    """The library that records, compiled here; without a compiler the test is skipped."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: writes can not be recorded")
    made = folder / "recorder.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return made


def lose_power(
    acting: Zygote, recovering: Zygote, folder: Path, *, states: int, steps: int, seed: int, failing: int = 0
) -> dict[str, object]:
    """A recorded life in `acting`, recovered in `recovering` from `states` crashes. `failing`: every so many syncs."""
    root, journal = folder / "root", folder / "journal"
    recovering.call("tests.faults.stores:new", folder=str(root))
    options = {"folder": str(root), "journal": str(journal)}
    failed = acting.call("tests.faults.stores:act", **options, steps=steps, seed=seed, failing=failing)

    def replayed(part: int) -> dict[str, object]:
        chosen = {"into": str(folder / f"part-{part}"), "count": states // AT_ONCE, "seed": seed * AT_ONCE + part}
        return recovering.call("tests.faults.stores:replay", **options, **chosen)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts: Sequence[dict[str, object]] = list(pool.map(replayed, range(AT_ONCE)))
    return {
        "broken": sums(part["broken"] for part in parts),
        "states": sum(part["states"] for part in parts),
        "operations": parts[0]["operations"],
        "syncs": parts[0]["syncs"],
        "failed_steps": failed,
    }
