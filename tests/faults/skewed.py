"""Daemons whose machines do not agree on the time."""

import ctypes
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon import clock
from tests.faults import serving
from tests.faults.killing import Fleet

SOURCE = Path(__file__).with_name("skew.c")


def library(folder: Path) -> Path:
    """Compiled here; without a compiler the test is skipped."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: clocks can not be put wrong")
    made = folder / "skew.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return made


def serve(environ: Mapping[str, str], points: Mapping[str, tuple[str, int]], skew_s: int) -> int:
    """A daemon by a clock that is wrong, until it is killed."""
    before = clock.now()
    ctypes.CDLL(None).skew_clock(ctypes.c_long(skew_s))
    off_s = (clock.now() - before).total_seconds()
    if abs(off_s - skew_s) > 1:
        raise AssertionError(f"the clock is off by {off_s:.0f} s, not by {skew_s} s")
    return serving.serve(environ, points)


@dataclass
class SkewedFleet(Fleet):
    """Every other daemon's clock is `skew_s` early, the others' as much late."""

    skew_s: int = 60

    def start(self, at: int, points: dict[str, tuple[str, int]] | None = None) -> None:
        if at in self.children:
            self.children.pop(at).close()
        self.children[at] = self.zygote.start(
            "tests.faults.skewed:serve",
            log=self.log,
            environ=self.environ | {"PLORA_PORT": str(self.ports[at])},
            points=points or {},
            skew_s=self.skew_s if at % 2 else -self.skew_s,
        )
