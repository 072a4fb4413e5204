"""The process that looks at files: it answers for each, dies alone, is replaced, and has nothing to lose."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import plora
from daemon.choices import Bounds
from daemon.gatekeeper import Entering, GateClosed, Gatekeeper
from tests.faults.figures import record

BASE = "ab" * 32


def small_basis() -> plora.Basis:
    torch.manual_seed(0)
    shapes = {"A.q": (2, 6), "B.q": (5, 2), "P.q": (2, 4), "head.weight": (2, 6), "head.bias": (2,), "prior.mean": (4,)}
    spec = plora.BasisSpec(BASE, plora.Kind.CLASSIFICATION, ("no", "yes"), ("q",), 2, 4.0, 4)
    return plora.Basis(spec, {name: torch.randn(shape) for name, shape in shapes.items()})


BASIS = small_basis()
PLACE = {"base": BASE, "basis": BASIS.fingerprint}
ADAPTER = plora.dumps(plora.Adapter(BASE, BASIS.fingerprint, torch.ones(4)))
SHOWN = Entering("basis", plora.dumps(BASIS), fingerprint=BASIS.fingerprint)


@pytest.fixture(scope="module")
def gatekeeper():
    made = Gatekeeper()
    yield made
    made.close()


def pid_of(gatekeeper: Gatekeeper) -> int:
    """The one process of this test that runs the child."""
    return gatekeeper._child.process.pid


def test_every_file_gets_its_own_answer(gatekeeper):
    files = [ADAPTER, ADAPTER[:-1], b"PK\x03\x04", ADAPTER, b""]
    codes = gatekeeper.check([Entering("adapter", data, **PLACE) for data in files])
    assert codes == [None, "size", "archive", None, "format"]
    assert gatekeeper.check([]) == []


def test_once_a_basis_is_known_its_adapters_must_fit_it(gatekeeper):
    wrong = plora.dumps(plora.Adapter(BASE, BASIS.fingerprint, torch.ones(5)))
    elsewhere = plora.dumps(plora.Adapter("cd" * 32, BASIS.fingerprint, torch.ones(4)))
    assert gatekeeper.check([SHOWN]) == [None]
    assert gatekeeper.knows(BASIS.fingerprint)
    files = [
        Entering("adapter", ADAPTER, **PLACE),
        Entering("adapter", wrong, **PLACE),
        Entering("adapter", elsewhere, basis=BASIS.fingerprint),
        Entering("adapter", elsewhere, base="cd" * 32, basis=BASIS.fingerprint),
        Entering("basis", SHOWN.data, fingerprint="ee" * 32),
    ]
    assert gatekeeper.check(files) == [None, "dimensions", "wrong_base", "wrong_base", "wrong_fingerprint"]


def test_the_bounds_are_those_that_were_set():
    strict = Gatekeeper(Bounds(most=0.5))
    assert strict.check([Entering("adapter", ADAPTER)]) == ["magnitude"]
    strict.close()


def test_a_process_that_dies_takes_one_file_with_it_and_no_other(gatekeeper, tmp_path):
    deadly = Gatekeeper(command=dying_at(tmp_path, b"deadly"))
    codes = deadly.check([Entering("adapter", data) for data in (ADAPTER, b"deadly", ADAPTER, b"deadly", ADAPTER[:-1])])
    assert codes == [None, "gate_died", None, "gate_died", "size"]
    deadly.close()


def dying_at(home: Path, data: bytes, how: str = "os.kill(os.getpid(), 9)") -> list[str]:
    """The child with a gate that does `how` at this file."""
    script = home / "child.py"
    script.write_text(f"""
import os, sys
from daemon import gate_child
usual = gate_child.judge
def judge(gate, order, data, known):
    if data == {data!r}:
        {how}
    return usual(gate, order, data, known)
gate_child.judge = judge
gate_child.serve(sys.stdin.buffer, sys.stdout.buffer)
""")
    return [sys.executable, str(script)]


@pytest.mark.parametrize(
    "how",
    [
        "import pickle; pickle.loads(b'cos\\nsystem\\n(S\\'true\\'\\ntR.')",
        "import subprocess; subprocess.run(['true'])",
        "os.system('true')",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "open('/etc/passwd')",
        "bytearray(2 << 30)",
    ],
)
def test_a_gate_that_was_taken_over_gets_nowhere(tmp_path, how):
    taken = Gatekeeper(command=dying_at(tmp_path, b"deadly", how))
    assert taken.check([Entering("adapter", b"deadly"), Entering("adapter", ADAPTER)]) == ["gate_died", None]
    taken.close()


def test_a_file_that_takes_too_long_ends_the_process(tmp_path):
    slow = Gatekeeper(command=dying_at(tmp_path, b"deadly", "gate_child.allow_cpu(0)\n        while True: pass"))
    assert slow.check([Entering("adapter", b"deadly"), Entering("adapter", ADAPTER)]) == ["gate_died", None]
    slow.close()


def test_a_process_that_falls_silent_is_replaced(gatekeeper):
    quiet = Gatekeeper(silence_s=0.3)
    assert quiet.check([Entering("adapter", ADAPTER)]) == [None]
    first = pid_of(quiet)
    os.kill(first, signal.SIGSTOP)
    assert quiet.check([Entering("adapter", ADAPTER)] * 2) == ["gate_died", None]
    assert pid_of(quiet) != first
    quiet.close()


def test_a_process_that_does_not_start_is_named():
    closed = Gatekeeper(command=[sys.executable, "-c", "pass"])
    with pytest.raises(GateClosed, match="does not start"):
        closed.check([Entering("adapter", ADAPTER)])


def test_the_process_is_replaced_after_so_many_files_and_killed_at_the_end():
    brief = Gatekeeper(files_each=5)
    assert brief.check([Entering("adapter", ADAPTER)] * 12) == [None] * 12
    last = pid_of(brief)
    brief.close()
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


def test_large_files_and_those_too_large_pass_over_the_pipe(gatekeeper):
    files = [bytes(15 << 20), bytes(17 << 20), ADAPTER]
    assert gatekeeper.check([Entering("adapter", data) for data in files]) == ["format", "too_large", None]


def test_many_threads_share_one_gate(gatekeeper):
    found = []

    def ask(data: bytes, code: str | None) -> None:
        found.extend(each == code for each in gatekeeper.check([Entering("adapter", data)] * 50))

    threads = [threading.Thread(target=ask, args=pair) for pair in [(ADAPTER, None), (ADAPTER[:-1], "size")] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 400


def test_the_process_holds_no_torch_and_may_do_little(gatekeeper):
    gatekeeper.check([Entering("adapter", ADAPTER)])
    process = Path(f"/proc/{pid_of(gatekeeper)}")
    assert "torch" not in (process / "maps").read_text()
    limits = (process / "limits").read_text()
    assert f"Max address space         {1 << 30}" in limits
    assert "Max core file size        0                    0" in limits
    assert "PLORA" not in (process / "environ").read_text()


def test_a_cohort_passes_in_little_time(gatekeeper):
    cohort = [Entering("adapter", ADAPTER, **PLACE)] * 256
    gatekeeper.check([SHOWN, *cohort])
    began = time.perf_counter()
    assert gatekeeper.check(cohort) == [None] * 256
    seconds = time.perf_counter() - began
    assert seconds < 1
    record("gate cost", 0, files=256, bytes=len(ADAPTER), milliseconds=round(1_000 * seconds, 1))


def test_an_error_of_the_gate_survives_pickling():
    assert "memory" in str(GateClosed())
