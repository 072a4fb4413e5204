"""A population on its way through the Trainer: sealed shards, checkpoints, progress; no text in any file."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import plora
from daemon.api.views import basis_view
from daemon.in_process_trainer import InProcessTrainer
from daemon.messages import BasisProgress, BasisRequest, ShardsMissing
from daemon.models import Models
from daemon.population import identity_of
from daemon.shards import cut, name_of
from daemon.spool import Spool
from daemon.trainer_errors import TrainerFailed, TrainerLost
from daemon.work import train_basis
from plora.checkpoints import loads_checkpoint
from policies.attempts import Patience

KEY = bytes(range(32))
CANARY = "zqcanaryzq"
ROOT = Path(__file__).parents[3]
ONCE = BasisRequest("7", 1, epochs=2)


def population(taste, count: int = 6, examples: int = 8) -> list[tuple[tuple[str, str], ...]]:
    return [tuple((f"{text} {CANARY}", label) for text, label in taste(user, examples)) for user in range(count)]


def files_with(folder: Path, word: str) -> list[Path]:
    needles = (word.encode(), word.encode("utf-16-le"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(needle in path.read_bytes() for needle in needles)]


@pytest.fixture
def spooled(models: Models, tmp_path: Path) -> Models:
    return Models(models.base, spool=Spool(tmp_path / "spool", KEY))


def test_what_is_not_spooled_is_asked_for_once_and_sent_sealed(models, tmp_path, taste):
    seen: list[bytes] = []

    class Watching(InProcessTrainer):
        def _carry(self, purpose, envelope: bytes) -> bytes:
            seen.append(envelope)
            return super()._carry(purpose, envelope)

    spool = Spool(tmp_path / "spool", KEY)
    kept = Models(models.base, spool=spool)
    trainer = Watching(lambda: kept, KEY)
    shards = list(cut(population(taste), 200))
    made = trainer.train_basis(ONCE, lambda: shards)
    assert len(shards) > 2
    assert len(seen) == 2 + len(shards)
    assert not any(CANARY.encode() in envelope for envelope in seen)
    assert plora.loads_basis(made.content).fingerprint == made.fingerprint
    assert json.loads(made.report)["labels"] == 2
    assert list((tmp_path / "spool").iterdir()) == []


def test_however_a_population_is_cut_the_basis_is_the_same(models, taste):
    people = population(taste)
    made = set()
    for size in (100, 1 << 20):
        trainer = InProcessTrainer(lambda: Models(models.base), KEY)
        made.add(trainer.train_basis(ONCE, lambda size=size: cut(people, size)).fingerprint)
    assert len(made) == 1


def test_a_population_that_changes_while_it_is_sent_is_named_anew(models, taste):
    versions = [population(taste, 6), population(taste, 5), population(taste, 5), population(taste, 5)]
    readings: list[int] = []

    def shards():
        readings.append(1)
        return cut(versions[min(len(readings) - 1, 3)], 200)

    made = InProcessTrainer(lambda: Models(models.base), KEY).train_basis(ONCE, shards)
    again = InProcessTrainer(lambda: Models(models.base), KEY).train_basis(ONCE, lambda: cut(versions[3], 200))
    assert made.fingerprint == again.fingerprint
    assert len(readings) >= 3


def test_a_population_that_never_stands_still_is_given_up(models, taste):
    counts = iter(range(100))

    def shards():
        return cut(population(taste, 5 + next(counts))[::-1], 200)

    with pytest.raises(TrainerLost):
        InProcessTrainer(lambda: Models(models.base), KEY).train_basis(ONCE, shards)


def test_a_lost_or_damaged_shard_is_asked_for_again(spooled, taste):
    shards = list(cut(population(taste), 200))
    names = tuple(name_of(KEY, shard) for shard in shards)
    for index, shard in enumerate(shards):
        spooled.spool.keep("7", index, names[index], shard)
    folder = spooled.spool.folder / "basis-7"
    (folder / "shard-1").write_bytes((folder / "shard-1").read_bytes()[:-1])
    (folder / "shard-2").unlink()
    assert train_basis(spooled, replace(ONCE, shards=names)) == ShardsMissing((1, 2))


def test_another_population_replaces_what_was_left(spooled, taste):
    trainer = InProcessTrainer(lambda: spooled, KEY)
    spooled.spool.write("3", "checkpoint", "", b"of an older one")
    trainer.train_basis(ONCE, lambda: cut(population(taste), 200))
    assert not (spooled.spool.folder / "basis-3").exists()


def test_a_population_given_up_is_forgotten(spooled, taste):
    spooled.spool.keep("7", 0, "name", tuple(population(taste)))
    InProcessTrainer(lambda: spooled, KEY).forget_population("7")
    assert list(spooled.spool.folder.iterdir()) == []


KILLED = """
import sys
import threading
from pathlib import Path
import torch
import plora
from daemon import population
from daemon.messages import decode_request
from daemon.spool import Spool

class Stalling(Spool):
    written = 0
    def write(self, basis, part, bound_to, plain):
        super().write(basis, part, bound_to, plain)
        self.written += part == "checkpoint"
        if self.written == 2:
            Path(sys.argv[2]).touch()
            threading.Event().wait()

torch.set_num_threads(1)
spool = Stalling(Path(sys.argv[1]), bytes(range(32)))
base = plora.load(sys.argv[3], device="cpu", max_tokens=16)
population.train(base, spool, decode_request(sys.stdin.buffer.read()))
"""


def test_a_trainer_that_is_killed_goes_on_and_makes_the_same_basis(models, spooled, tiny_folder, tmp_path, taste):
    from daemon.messages import encode_request  # noqa: PLC0415

    shards = list(cut(population(taste), 200))
    request = replace(ONCE, epochs=4, shards=tuple(name_of(KEY, shard) for shard in shards))
    for index, shard in enumerate(shards):
        spooled.spool.keep("7", index, request.shards[index], shard)
    arguments = [sys.executable, "-c", KILLED, str(spooled.spool.folder), str(tmp_path / "seen"), str(tiny_folder)]
    running = subprocess.Popen(arguments, stdin=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    running.stdin.write(encode_request(request))
    running.stdin.close()
    while running.poll() is None and not (tmp_path / "seen").exists():
        threading.Event().wait(0.05)
    running.send_signal(signal.SIGKILL)
    assert running.wait(20) == -signal.SIGKILL
    assert files_with(tmp_path, CANARY) == []

    later = replace(request, epoch=2)
    sealed = spooled.spool.read("7", "checkpoint", identity_of(later))
    assert loads_checkpoint(sealed).standing.epoch == 2
    assert spooled.spool.read("7", "checkpoint", identity_of(replace(later, epochs=5))) is None
    began: list[int] = []
    tell = spooled.spool.tell
    spooled.spool.tell = lambda basis, told: began.append(told.epoch) or tell(basis, told)
    resumed = train_basis(spooled, later)
    assert began == [3, 4]
    alone = InProcessTrainer(lambda: Models(models.base), KEY).train_basis(replace(ONCE, epochs=4), lambda: shards)
    assert resumed.content == alone.content
    assert list(spooled.spool.folder.iterdir()) == []


def test_progress_is_told_while_training_goes_on(spooled, taste):
    told: list[BasisProgress | None] = []
    trainer = InProcessTrainer(lambda: spooled, KEY)
    tell = spooled.spool.tell
    spooled.spool.tell = lambda basis, progress: tell(basis, progress) or told.append(trainer.progress(basis))
    trainer.train_basis(replace(ONCE, epochs=3), lambda: cut(population(taste), 200))
    assert [each.epoch for each in told] == [1, 2, 3]
    assert told[-1].examples == 3 * 6 * 8
    assert told[-1].examples_per_s > 0
    assert trainer.progress("7") is None
    assert trainer.progress("8") is None


def test_the_daemon_shows_the_progress_of_a_basis_and_then_none(training):
    training.people(8)
    shown: list[tuple[float, float, BasisProgress | None]] = []
    asked = threading.Event()

    class Watched:
        def __getattr__(self, name: str):
            return getattr(training.trainer, name)

        def train_basis(self, request, population):
            asked.wait(30)  # a look that finds nothing, then what training told
            made = training.trainer.train_basis(request, population)
            looked.wait(30)
            return made

        def progress(self, basis: str) -> BasisProgress:
            asked.set()
            if shown_epochs := training_daemon.count("plora_basis_epochs"):
                heard = training_daemon.scheduler.progress(int(basis))
                shown.append((training_daemon.count("plora_basis_epoch"), shown_epochs, heard))
                looked.set()
            return BasisProgress(2, 7, 0.5, None, 320, 40.0)

    looked = threading.Event()
    training_daemon = training.with_trainer(Watched(), tick_s=0.01)
    training_daemon.train_basis()
    assert shown[0] == (2.0, 7.0, BasisProgress(2, 7, 0.5, None, 320, 40.0))
    assert training_daemon.count("plora_basis_epochs") == 0
    assert training_daemon.scheduler.progress(1) is None


def test_another_attempt_finds_the_same_population_although_users_went_on(training):
    training.people(6)
    seen: list[list[object]] = []

    class Failing:
        def __getattr__(self, name: str):
            return getattr(training.trainer, name)

        def train_basis(self, request, population):
            seen.append([*population()])
            training.clock.advance(100)
            training.record("person-0", training.taste(0, 30)[20:], first=20)
            training.record("person-99", training.taste(9, 20), first=0)
            if len(seen) == 1:
                raise TrainerLost
            return training.trainer.train_basis(request, population)

    daemon = training.with_trainer(Failing())
    daemon.store.open_basis(training.tenant, "main", "", training.clock.now())
    daemon.scheduler.work_once(training.clock.now())
    daemon.scheduler.work_once(training.clock.advance(600))
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_a_basis_that_is_given_up_leaves_no_spool(training):
    training.people(6)
    given_up: list[str] = []

    class Hopeless:
        def __getattr__(self, name: str):
            return getattr(training.trainer, name)

        def train_basis(self, *_: object):
            raise TrainerFailed("RuntimeError")

        def forget_population(self, basis: str) -> None:
            given_up.append(basis)

    daemon = training.with_trainer(Hopeless(), attempts=Patience(max_errors=2))
    record = daemon.store.open_basis(training.tenant, "main", "", training.clock.now())
    for _ in range(3):
        daemon.scheduler.work_once(training.clock.advance(600))
    assert daemon.store.basis(record.id).error_code == "RuntimeError"
    assert given_up == [str(record.id)]


def test_the_api_shows_the_progress_of_a_basis_in_training(training):
    record = training.store.open_basis(training.tenant, "main", "", training.clock.now())
    shown = basis_view(record, BasisProgress(2, 7, 0.5, None, 320, 40.0)).model_dump()["progress"]
    assert (shown["epoch"], shown["epochs"], shown["loss"], shown["examples_per_s"]) == (2, 7, 0.5, 40.0)
    assert basis_view(record, None).progress is None
