"""System: several Ray Train workers train one Basis, are killed, go on, and leave nothing readable anywhere."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

import plora
from daemon.http_trainer import HttpTrainer
from daemon.in_process_trainer import InProcessTrainer
from daemon.messages import BasisRequest, BasisTrained, FitRequest, Member, MemberFitted
from daemon.models import Models
from daemon.processes import Started
from daemon.ray_child import RayChild
from daemon.shards import cut
from daemon.trainer_errors import TrainerFailed
from daemon.trainer_order import TrainerOrder

CANARY = "zqcanaryzq"
REQUEST = BasisRequest("7", 1, epochs=6, accumulate=2, patience=6)


@pytest.fixture
def ray_child(tmp_path: Path, tiny_folder: Path, ring) -> Iterator[RayChild]:
    order = TrainerOrder(str(tiny_folder), device="cpu", max_tokens=16, basis_workers=2, spool=str(tmp_path / "spool"))
    child = RayChild(order, key_file=ring.transport_path, data_dir=tmp_path)
    child.start()
    yield child
    child.stop()


def shards(taste, people: int = 12) -> list[object]:
    texts = [tuple((f"{text} {CANARY}", label) for text, label in taste(user, 16)) for user in range(people)]
    return list(cut(texts, 1024))


def workers(child: RayChild) -> list[int]:
    pids = Started(child.directory).pids()
    return [pid for pid in pids if b"ray::RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def until(seen: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2400):
        if seen():
            return
        pause.wait(0.05)
    raise TimeoutError


@pytest.mark.system
@pytest.mark.long
def test_two_ray_workers_make_what_one_process_makes_and_nothing_readable_is_left(
    *, ray_child, ring, models, basis, taste, tmp_path
):
    population = shards(taste)
    alone = InProcessTrainer(lambda: Models(models.base), bytes(32)).train_basis(REQUEST, lambda: population)
    trainer = HttpTrainer(lambda: ray_child.url, ring.transport)
    assert ray_child.wait_ready(120)

    made: list[BasisTrained | TrainerFailed] = []

    def ask(request: BasisRequest) -> None:
        try:
            made.append(trainer.train_basis(request, lambda: population))
        except TrainerFailed as error:
            made.append(error)

    first = threading.Thread(target=ask, args=(replace(REQUEST, epochs=4_000, patience=None),))
    first.start()
    until(lambda: trainer.progress("7") is not None)
    pairs = tuple(taste(1, 16, seed=3))
    cohort = FitRequest(basis.fingerprint, (Member(1, 1, pairs[:11], pairs[11:]),))
    (fitted,) = trainer.fit(cohort, lambda: basis.content).outcomes  # while the workers train
    assert isinstance(fitted, MemberFitted)
    assert made == []
    assert readable_files(tmp_path, Path(ray_child.directory)) == []
    os.kill(workers(ray_child)[0], signal.SIGKILL)
    first.join(60)
    assert isinstance(made[0], TrainerFailed)
    assert (tmp_path / "spool" / "basis-7" / "checkpoint").exists()
    assert httpx.get(f"{ray_child.url}/progress/none").status_code == 404

    ask(REQUEST)
    (together,) = made[1:]
    theirs, ours = plora.loads_basis(together.content), plora.loads_basis(alone.content)
    for name, value in ours.tensors.items():
        torch.testing.assert_close(theirs.tensors[name], value, atol=2e-3, rtol=2e-3, msg=name)
    assert readable_files(tmp_path, Path(ray_child.directory)) == []
    assert list((tmp_path / "spool").iterdir()) == []


def readable_files(*folders: Path) -> list[Path]:
    """Files, Ray's logs among them, that hold a text or a word of one."""
    needles = (CANARY.encode(), CANARY.encode("utf-16-le"))
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in paths if any(needle in path.read_bytes() for needle in needles)]
