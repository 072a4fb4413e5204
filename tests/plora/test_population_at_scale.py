"""Population training of many users: streamed, accumulated, stopped early, killed and resumed, shared among peers."""

import dataclasses
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import plora
from plora import Example, MutualInformation, PopulationSettings, Reach
from plora.checkpoints import Checkpoint, dumps_checkpoint, loads_checkpoint
from plora.errors import ChangedPopulation, MalformedCheckpoint, WrongCheckpoint
from plora.links import Link
from plora.losses import Objective
from plora.population import trained_leaves
from plora.prefixes import Prefix
from plora.windows import Survey, Windows, survey
from tests.plora import population_process, toys
from tests.plora.conftest import Toy

ROOT = Path(__file__).parents[2]
QUICK = PopulationSettings(
    rank=4,
    dimensions=4,
    epochs=3,
    shared_rate=1e-2,
    user_rate=2e-2,
    last_layers=1,
    reach=Reach.TARGETS,
    label_bias=False,
)


class Tracked(Example):
    """An Example that can be counted."""


class Elsewhere:
    """Users that are made anew at each reading; `most` is how many of their examples were ever alive together."""

    def __init__(self, users: int, examples: int) -> None:
        self.users, self.examples, self.most, self.readings = users, examples, 0, 0
        self.alive: weakref.WeakSet[Tracked] = weakref.WeakSet()

    def __iter__(self) -> Iterator[list[Example]]:
        self.readings += 1
        for user in range(self.users):
            made: list[Example] = []
            for number, each in enumerate(toys.reviews(self.examples, user, toys.TRIBES[user % 4])):
                made.append(Tracked(f"{each.text} {toys.WORDS[number % 4]}", each.target))
                self.alive.add(made[-1])
            self.most = max(self.most, len(self.alive))
            yield made
            del made


def process(*arguments: str, **more: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(Path(population_process.__file__)), *arguments]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}, **more)


@pytest.fixture(scope="module")
def uninterrupted() -> plora.Population:
    return population_process.train()


@pytest.mark.parametrize("window", [1 << 16, 20])
def test_a_stream_gives_the_same_bits_as_the_list_of_its_users(bert: Toy, window: int) -> None:
    settings = dataclasses.replace(QUICK, window=window)
    source = Elsewhere(12, 5)
    streamed = plora.train_population(bert.base, source, settings)
    listed = plora.train_population(bert.base, list(Elsewhere(12, 5)), settings)
    assert plora.dumps(streamed.basis) == plora.dumps(listed.basis)
    assert torch.equal(streamed.vectors, listed.vectors)
    assert (source.readings > 4) == (window == 20)


def test_what_is_in_memory_does_not_grow_with_the_users(bert: Toy) -> None:
    most = []
    for users in (20, 80):
        source = Elsewhere(users, 5)
        plora.train_population(bert.base, source, dataclasses.replace(QUICK, epochs=1, window=10))
        gc.collect()
        most.append(source.most)
    assert most[0] == most[1] <= 15


def test_a_source_that_can_be_read_only_once_is_refused(bert: Toy) -> None:
    with pytest.raises(ChangedPopulation):
        plora.train_population(bert.base, iter(toys.toy_population(12, 5)), dataclasses.replace(QUICK, window=10))


def test_a_source_that_changes_between_readings_is_refused(bert: Toy) -> None:
    class Growing(Elsewhere):
        def __iter__(self) -> Iterator[list[Example]]:
            self.examples += self.readings
            return super().__iter__()

    with pytest.raises(ChangedPopulation):
        plora.train_population(bert.base, Growing(12, 5), QUICK)


@pytest.mark.parametrize("mode", list(MutualInformation))
@pytest.mark.parametrize("any_model", ["bert", "roberta", "gpt2", "llama_classifier"])
def test_keeping_what_the_lower_blocks_gave_changes_no_bit(
    any_model: str, mode: MutualInformation, request: pytest.FixtureRequest
) -> None:
    toy: Toy = request.getfixturevalue(any_model)
    settings = dataclasses.replace(QUICK, epochs=2, mutual_information=mode, dropout=0.1)
    population = toys.toy_population(5, 5)
    found = {
        plora.dumps(plora.train_population(toy.base, population, dataclasses.replace(settings, kept_bytes=size)).basis)
        for size in (0, 30_000, 1 << 30)
    }
    assert len(found) == 1


def test_the_lower_blocks_are_skipped_once_known_and_zeroed_at_the_end(bert: Toy) -> None:
    spec = dataclasses.replace(bert.basis.spec, targets=plora.find_targets(bert.base.module, last_layers=1))
    with plora.attached(bert.base, plora.fresh_basis(bert.base.module, spec, 0)) as live:
        windows = Windows(bert.base, live.basis, toys.toy_population(3, 4), Survey((), torch.tensor([4, 4, 4])), 99)
        (window,) = windows
        calls: list[int] = []
        lowest = bert.base.module.get_submodule("bert.encoder.layer.0")
        hook = lowest.register_forward_hook(lambda *_: calls.append(1))
        prefix = Prefix(bert.base, live, 5 * 8 * toys.HIDDEN * 4)
        rows = {number: window.row(number) for number in range(12)}
        prefix.prepare(rows)
        assert prefix.kept == 5
        ran = len(calls)
        prefix.prepare({number: rows[number] for number in range(5)})
        assert len(calls) == ran > 0
        held = list(prefix._kept.values())
        prefix.close()
        hook.remove()
    assert held
    assert not any(bool(each.any()) for each in held)


def test_a_step_of_accumulated_micro_batches_is_the_step_of_one_large_batch(bert: Toy) -> None:
    """Two micro-batches of 16 and 4 rows against the mean over all 20 examples."""
    population = toys.toy_population(4, 5)
    settings = dataclasses.replace(QUICK, personalized_dropout=0.0, dropout=0.0, accumulate=2, epochs=1, shared_rate=0)
    grads: list[list[torch.Tensor]] = []
    with plora.attached(bert.base, bert.basis) as live:
        found = survey(population, bert.base.kind, Link.CATEGORICAL)
        (window,) = Windows(bert.base, live.basis, population, found, 999)
        objective = Objective(bert.base, live, found, dataclasses.replace(settings, dimensions=8))
        objective.vectors.data = toys.vectors(4)
        leaves = [*trained_leaves(live), objective.vectors]
        draw = torch.Generator()
        for parts in ([range(20)], [range(16), range(16, 20)]):
            for leaf in leaves:
                leaf.grad = None
            for part in parts:
                batch = one_batch(bert, window.rows, part)
                loss, _ = objective.loss(batch, draw)
                torch.autograd.backward(loss * (len(part) / 20))
            grads.append([leaf.grad.clone() for leaf in leaves])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)


def one_batch(toy: Toy, rows: list[plora.examples.Row], part: range) -> plora.examples.MicroBatch:
    ids = torch.zeros(len(part), 8, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, number in enumerate(part):
        ids[at, : len(rows[number].ids)] = torch.tensor(rows[number].ids)
        mask[at, : len(rows[number].ids)] = 1
    targets = torch.tensor([rows[number].target for number in part])
    return plora.examples.MicroBatch(torch.tensor(list(part)), ids, mask, targets)


def test_accumulating_takes_fewer_steps_and_still_learns(bert: Toy) -> None:
    steps: list[int] = []
    for accumulate in (1, 3):
        told: list[Checkpoint] = []
        settings = dataclasses.replace(QUICK, epochs=8, accumulate=accumulate, checkpoint_steps=1)
        made = plora.train_population(bert.base, toys.toy_population(40, 8), settings, on_checkpoint=told.append)
        steps.append(max(each.standing.steps for each in told))
        assert made.history[-1] < made.history[0] - 0.02
    assert steps[1] == -(-steps[0] // 3)


def test_training_ends_when_the_examples_kept_aside_are_predicted_no_better(bert: Toy) -> None:
    """Labels by the toss of a coin: whatever is learned of them is wrong for others."""
    draw = torch.Generator().manual_seed(0)
    noise = [
        [Example(e.text, toys.LABELS[int(torch.randint(2, (), generator=draw))]) for e in user]
        for user in toys.toy_population(8, 12)
    ]
    settings = dataclasses.replace(QUICK, epochs=40, user_rate=5e-2, prior=0.0, patience=2, held_out=0.3)
    made = plora.train_population(bert.base, noise, settings)
    assert len(made.history) == len(made.held_out) < 40
    best = made.held_out.index(min(made.held_out))
    assert len(made.held_out) == best + 3
    shorter = plora.train_population(bert.base, noise, dataclasses.replace(settings, patience=None, epochs=40))
    assert len(shorter.history) == 40
    assert shorter.held_out == ()


def test_a_training_killed_and_resumed_gives_the_same_bits(tmp_path: Path, uninterrupted: plora.Population) -> None:
    running = process("killed", str(tmp_path), stdout=subprocess.DEVNULL)
    for _ in range(1200):
        if (tmp_path / "checkpoint").exists() or running.poll() is not None:
            break
        threading.Event().wait(0.05)
    running.send_signal(signal.SIGKILL)
    assert running.wait(20) == -signal.SIGKILL
    checkpoint = loads_checkpoint((tmp_path / "checkpoint").read_bytes())
    assert (checkpoint.standing.epoch, checkpoint.standing.steps) == (1, 2)
    resumed = population_process.train(resume=checkpoint)
    assert plora.dumps(resumed.basis) == plora.dumps(uninterrupted.basis)
    assert torch.equal(resumed.vectors, uninterrupted.vectors)
    assert (resumed.history, resumed.held_out) == (uninterrupted.history, uninterrupted.held_out)


def test_two_peers_make_what_one_makes(tmp_path: Path, uninterrupted: plora.Population) -> None:
    both = [process("peer", str(tmp_path), str(rank), "2") for rank in range(2)]
    assert [each.wait(100) for each in both] == [0, 0]
    calm = dataclasses.replace(population_process.SETTINGS, mutual_information=MutualInformation.NONE, patience=None)
    for name, alone in {"made": uninterrupted, "calm": population_process.train(calm)}.items():
        assert (tmp_path / f"{name}0.basis").read_bytes() == (tmp_path / f"{name}1.basis").read_bytes()
        found = torch.load(tmp_path / f"{name}0")
        assert found["history"] == pytest.approx(alone.history, abs=1e-4)
        assert found["held"] == pytest.approx(alone.held_out, abs=1e-4)
        theirs = plora.loads_basis((tmp_path / f"{name}0.basis").read_bytes())
        for tensor, value in alone.basis.tensors.items():
            torch.testing.assert_close(theirs.tensors[tensor], value, atol=2e-3, rtol=2e-3, msg=f"{name} {tensor}")


def test_a_checkpoint_survives_its_bytes_and_damage_is_found(bert: Toy) -> None:
    told: list[Checkpoint] = []
    plora.train_population(bert.base, toys.toy_population(4, 4), QUICK, on_checkpoint=told.append)
    data = dumps_checkpoint(told[-1])
    back = loads_checkpoint(data)
    assert dumps_checkpoint(back) == data
    assert back.standing == told[-1].standing
    for broken in (b"", data[:-1], b"PLB1" + data[4:], data[:36], data[:50] + bytes([data[50] ^ 1]) + data[51:]):
        with pytest.raises(MalformedCheckpoint):
            loads_checkpoint(broken)


def test_a_checkpoint_of_other_settings_or_users_is_refused(bert: Toy) -> None:
    told: list[Checkpoint] = []
    plora.train_population(bert.base, toys.toy_population(4, 4), QUICK, on_checkpoint=told.append)
    with pytest.raises(WrongCheckpoint):
        plora.train_population(bert.base, toys.toy_population(4, 5), QUICK, resume=told[0])
    other = dataclasses.replace(QUICK, seed=1)
    with pytest.raises(WrongCheckpoint):
        plora.train_population(bert.base, toys.toy_population(4, 4), other, resume=told[0])


@pytest.mark.parametrize("wrong", ["accumulate", "patience", "window", "held_out", "checkpoint_steps"])
def test_settings_that_mean_nothing_are_refused(wrong: str) -> None:
    with pytest.raises(plora.InvalidSetting, match=wrong):
        dataclasses.replace(QUICK, **{wrong: 0})
