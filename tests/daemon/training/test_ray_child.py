"""The supervised process: started, watched, started again, and ended with everything it started."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.http_trainer import HttpTrainer
from daemon.messages import FitRequest, Member, MemberFitted
from daemon.processes import MARK, Started
from daemon.ray_child import LONGEST_DIRECTORY, RAY_PORTS, Pace, RayChild, free_port, session_directory
from daemon.trainer_errors import TrainerError
from daemon.trainer_order import TrainerOrder

QUICK = Pace(start_s=20, look_s=0.05, answer_s=0.3, misses=2, first_pause_s=0.05, longest_pause_s=0.2, stop_s=1)

# A child without Ray: it answers on its port, and says by GET /count how often anything was asked.
PLAIN = """
import json, os, signal, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
order = json.loads(sys.stdin.readline())
stubborn, silent = "stubborn" in sys.argv, "silent" in sys.argv
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"], start_new_session=True)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if silent and self.path == "/-/healthz":
            threading.Event().wait()
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
server = HTTPServer((order["host"], order["port"]), Handler)
def follow():
    sys.stdin.read()
    if not stubborn:
        os._exit(0)
threading.Thread(target=follow, daemon=True).start()
server.serve_forever()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RayChild]]:
    (tmp_path / "plain.py").write_text(PLAIN)
    started: list[RayChild] = []

    def begin(*modes: str, script: str | None = None, **more: object) -> RayChild:
        command = (sys.executable, script or str(tmp_path / "plain.py"), *modes)
        child = RayChild(
            TrainerOrder(), key_file=tmp_path / "key", data_dir=tmp_path, pace=QUICK, command=command, **more
        )
        started.append(child)
        child.start()
        return child

    yield begin
    for child in started:
        child.stop()
        assert child.url is None
        assert Started(child.directory).pids() == []


def test_it_starts_and_stops(start):
    changes: list[bool] = []
    child = start(on_change=changes.append)
    assert child.wait_ready(20)
    assert child.url is not None
    assert child.restarts == 0
    child.stop()
    assert (child.url, child.pid) == (None, None)
    assert changes == [True, False]


def test_a_killed_child_is_started_again(start):
    child = start()
    assert child.wait_ready(20)
    first = child.pid
    os.kill(first, signal.SIGKILL)
    assert child.wait_ready(20, after_restarts=1)
    assert child.pid != first
    assert child.restarts == 1


def test_a_child_that_stops_answering_is_started_again(start):
    child = start("silent")
    assert child.wait_ready(20)
    assert child.wait_ready(20, after_restarts=2)


def test_a_child_that_never_starts_is_tried_again_until_stopped(start, tmp_path):
    child = start(script=str(tmp_path / "absent.py"))
    assert not child.wait_ready(0.5)
    child.stop()
    assert child.restarts >= 1


def test_what_ignores_every_request_to_leave_is_killed(start):
    child = start("stubborn")
    assert child.wait_ready(20)
    assert len(Started(child.directory).pids()) == 2
    child.stop()
    assert Started(child.directory).pids() == []


def test_what_a_killed_child_left_behind_is_gone_before_the_next_starts(start):
    child = start("stubborn")
    assert child.wait_ready(20)
    before = set(Started(child.directory).pids())
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait_ready(20, after_restarts=1)
    assert not before & set(Started(child.directory).pids())


def test_only_marked_processes_are_ended(tmp_path):
    idle = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    with (
        subprocess.Popen(idle, env=os.environ | {MARK: str(tmp_path / "ours")}) as ours,
        subprocess.Popen(idle, env=os.environ | {MARK: str(tmp_path / "ours too")}) as other,
    ):
        assert Started(str(tmp_path / "ours")).end(10) == 1
        assert ours.wait(10) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()


def test_ports_stay_clear_of_rays_and_directories_short_enough_for_a_socket(tmp_path):
    assert all(free_port() not in RAY_PORTS for _ in range(200))
    for data_dir in (Path("/var/plora"), tmp_path, tmp_path / ("long" * 40)):
        directory = session_directory(data_dir)
        assert len(directory) <= LONGEST_DIRECTORY
        assert directory == session_directory(data_dir)
    assert session_directory(tmp_path / "a") != session_directory(tmp_path / "b")


@pytest.fixture
def ray_child(tmp_path: Path, tiny_folder: Path, ring) -> Iterator[RayChild]:
    order = TrainerOrder(model=str(tiny_folder), device="cpu", max_tokens=16)
    child = RayChild(order, key_file=ring.transport_path, data_dir=tmp_path)
    child.start()
    yield child
    child.stop()
    assert Started(child.directory).pids() == []


@pytest.mark.system
def test_ray_fits_cohorts_and_comes_back_after_any_kill(ray_child, ring, basis, taste):
    trainer = HttpTrainer(lambda: ray_child.url, ring.transport)
    pairs = tuple(taste(1, 16, seed=3))
    request = FitRequest(basis.fingerprint, (Member(1, 1, pairs[:11], pairs[11:]),))

    def fit() -> MemberFitted:
        (outcome,) = trainer.fit(request, lambda: basis.content).outcomes
        return outcome

    assert ray_child.wait_ready(120)
    first = fit()
    assert isinstance(first, MemberFitted)
    assert unreadable(Path(ray_child.directory), b"shoe", b"coat", pairs[0][0].encode(), ring.transport_key())

    os.kill(ray_child.pid, signal.SIGKILL)
    assert ray_child.wait_ready(120, after_restarts=1)
    assert fit() == first

    replica = next(pid for pid in descendants(ray_child.pid) if title(pid).startswith("ray::ServeReplica:trainer"))
    handle = os.pidfd_open(replica)
    os.kill(replica, signal.SIGKILL)
    select.select([handle], [], [], 30)
    os.close(handle)
    assert fit_until_answered(fit) == first
    assert ray_child.restarts == 1


@pytest.mark.system
def test_ray_goes_away_with_a_daemon_that_is_killed(tmp_path, tiny_folder, ring):
    daemon = """
import sys, threading
from pathlib import Path
from daemon.ray_child import RayChild
from daemon.trainer_order import TrainerOrder
order = TrainerOrder(model=sys.argv[1], device="cpu")
child = RayChild(order, key_file=Path(sys.argv[2]), data_dir=Path(sys.argv[3]))
child.start()
print(child.wait_ready(120), flush=True)
threading.Event().wait()
"""
    command = [sys.executable, "-c", daemon, str(tiny_folder), str(ring.transport_path), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        session = int((tmp_path / "trainer.session").read_text())
        started = Started(session_directory(tmp_path), session)
        handles = [os.pidfd_open(pid) for pid in started.pids()]
        assert len(handles) >= 6
        process.kill()
        for handle in handles:
            assert select.select([handle], [], [], 60)[0], "a process of Ray outlived its daemon"
            os.close(handle)
    assert started.pids() == []


def fit_until_answered(fit: Callable[[], MemberFitted]) -> MemberFitted:
    """Ask again as a run would, until Serve has replaced the replica."""
    pause = threading.Event()
    for _ in range(120):
        try:
            return fit()
        except TrainerError:
            pause.wait(0.5)
    raise TimeoutError("no replica came back")


def descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split("\n")
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listed if line)}
    found = {pid}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def unreadable(folder: Path, *canaries: bytes) -> bool:
    """Whether there are files, and none of them holds a canary."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return bool(files) and not any(canary in path.read_bytes() for path in files for canary in canaries)
