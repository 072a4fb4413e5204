"""What a Trainer keeps of the users it worked for: nothing in its own tensors, and its process only for a while."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import plora
from daemon.http_trainer import HttpTrainer
from daemon.messages import FitRequest, Member, MemberFitted
from daemon.ray_child import RayChild
from daemon.trainer_order import TrainerOrder
from daemon.work import fit_cohort
from tests.daemon.training.test_ray_child import descendants, title

COHORTS = 4


def holders(vector: Tensor) -> list[tuple[int, ...]]:
    """Shapes of the living tensors in which `vector` stands as a run of numbers, itself left out."""
    wanted, found = vector.double(), []
    for each in gc.get_objects():
        if not issubclass(type(each), Tensor) or each is vector or each is wanted or not each.is_floating_point():
            continue
        flat = each.detach().flatten().double()
        if len(flat) >= len(wanted) and bool((flat.unfold(0, len(wanted), 1) == wanted).all(1).any()):
            found.append(tuple(each.shape))
    return found


def member(taste, user: int, **more: object) -> Member:
    return Member(user, 1, tuple(taste(user, 16, seed=2)), **more)


def vectors_of(answer) -> list[Tensor]:
    return [plora.loads_adapter(outcome.whole.adapter).vector for outcome in answer.outcomes]


@pytest.mark.parametrize(
    "kept", [pytest.param(False, id="full fit"), pytest.param(True, id="refit", marks=pytest.mark.long)]
)
def test_no_vector_is_left_in_the_replicas_tensors(models, basis, taste, kept):
    members = [member(taste, user) for user in range(4)]
    if kept:
        before = fit_cohort(models, FitRequest(basis.fingerprint, tuple(members))).outcomes
        members = [
            member(taste, user, statistics=was.statistics, covered=12, current=was.whole.adapter)
            for user, was in enumerate(before)
        ]
    answer = fit_cohort(models, FitRequest(basis.fingerprint, tuple(members)))
    for vector in vectors_of(answer):
        assert vector.any()
        assert holders(vector) == []
        copy = torch.stack([torch.zeros_like(vector), vector])
        assert holders(vector) == [tuple(copy.shape)]  # the search finds one that is left


@pytest.fixture
def ray_child(tmp_path: Path, tiny_folder: Path, ring) -> Iterator[RayChild]:
    order = TrainerOrder(model=str(tiny_folder), device="cpu", max_tokens=16, recycle=COHORTS)
    child = RayChild(order, key_file=ring.transport_path, data_dir=tmp_path)
    child.start()
    yield child
    child.stop()


@pytest.mark.system
@pytest.mark.long
def test_a_replica_makes_way_after_its_cohorts_and_no_request_fails(ray_child, ring, basis, taste):
    trainer = HttpTrainer(lambda: ray_child.url, ring.transport)
    request = FitRequest(basis.fingerprint, (member(taste, 1),))
    assert ray_child.wait_ready(120)
    first, asked, answers = replicas(ray_child), 0, set()
    seen = set(first)
    while len(seen) < len(first) + 2:  # two changes, one after the other
        asked += 1
        assert asked < 50_000
        (outcome,) = trainer.fit(request, lambda: basis.content).outcomes  # raises where a request fails
        assert isinstance(outcome, MemberFitted)
        answers.add(outcome)
        seen |= set(replicas(ray_child)) if asked % 20 == 0 else set()
    assert asked >= 2 * COHORTS
    assert len(answers) == 1
    assert ray_child.restarts == 0
    print(f"{asked} cohorts in {len(seen)} processes, 0 failed")


def replicas(child: RayChild) -> list[int]:
    """The processes of the Trainer deployment."""
    return [pid for pid in descendants(child.pid) if named(pid).startswith("ray::ServeReplica:trainer")]


def named(pid: int) -> str:
    try:
        return title(pid)
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has gone since it was listed
