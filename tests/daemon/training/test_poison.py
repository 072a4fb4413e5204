"""A10: users whose runs always fail are given up after their bound, and are in nobody's way."""

import os
import random
from dataclasses import dataclass, replace

import pytest

from daemon.messages import FitAnswer, MemberFailed
from daemon.trainer_errors import TrainerLost
from storage import RunState
from tests.faults.figures import record

MEMBER_S = 0.02
"""What the fit of one member takes, by a clock that is told."""

CLAIMED = 64


class Poisoned:
    """A real trainer before which some runs always fail, as members of a cohort or by bringing the trainer down."""

    def __init__(self, training, poisonous: frozenset[str], *, deadly: bool = False) -> None:
        self.training, self.poisonous, self.deadly = training, poisonous, deadly
        self.company: dict[str, int] = {}

    def fit(self, request, basis):
        self.training.clock.advance(MEMBER_S * len(request.members))
        users = {each.run: self.training.store.run(each.run).user for each in request.members}
        bad = {run for run, user in users.items() if user in self.poisonous}
        self.company |= {users[run]: len(request.members) for run in bad}
        if bad and self.deadly:
            raise TrainerLost
        good = tuple(each for each in request.members if each.run not in bad)
        found = self.training.trainer.fit(replace(request, members=good), basis) if good else FitAnswer((), 0.0, 0.0)
        made = {outcome.run: outcome for outcome in found.outcomes}
        failed = {run: MemberFailed(run, "not_finite") for run in bad}
        return replace(found, outcomes=tuple((made | failed)[each.run] for each in request.members))

    def __getattr__(self, name: str) -> object:
        return getattr(self.training.trainer, name)


@dataclass(frozen=True)
class Seen:
    """How long after they were due users were judged, and who was given up."""

    waits_s: list[float]
    dead: set[str]
    attempts: set[int]
    last_company: set[int]

    @property
    def p95_s(self) -> float:
        return sorted(self.waits_s)[int(0.95 * len(self.waits_s))]


def story(training, whom: list[str], poisonous: set[str], *, deadly: bool = False) -> Seen:
    """Everybody is due at once; the daemon works until nothing is left to be done."""
    trainer = Poisoned(training, frozenset(poisonous), deadly=deadly)
    daemon = training.with_trainer(trainer, claim_limit=CLAIMED)
    begun = training.clock.now()
    daemon.scheduler.tick(begun)
    while queued := training.store.runs(state=RunState.QUEUED, limit=1000):
        training.clock.at = max(training.clock.at, min(run.run_at for run in queued))
        daemon.scheduler.work_once(training.clock.now())
    healthy = [user for user in whom if user not in poisonous]
    made = {user: training.store.versions(user) for user in healthy}
    assert all(len(versions) == 1 for versions in made.values())
    dead = training.store.dead_letters(training.tenant, 1000)
    assert {run.error_code for run in dead} <= {"not_finite", "trainer_lost"}
    return Seen(
        [(versions[0].created_at - begun).total_seconds() for versions in made.values()],
        {run.user for run in dead},
        {run.attempts for run in dead},
        set(trainer.company.values()),
    )


def people(training, count: int, group: str) -> list[str]:
    return [training.record(f"{group}-{at}", training.taste(at, 16, seed=at)) for at in range(count)]


def compare(training, basis, count: int, poisoned: int) -> tuple[Seen, Seen, int]:
    seed = int.from_bytes(os.urandom(4), "big")
    training.give_basis(basis)
    without = story(training, people(training, count, "well"), set())
    training.clock.advance(3600)
    whom = people(training, count, "mixed")
    poisonous = set(random.Random(seed).sample(whom, poisoned))
    seen = story(training, whom, poisonous)
    assert seen.dead == poisonous
    assert seen.attempts == {training.settings.attempts.max_errors}
    assert len(seen.waits_s) == count - poisoned
    assert seen.p95_s <= 2 * without.p95_s
    record(
        "A10",
        seed,
        full=count >= 500,
        users=count,
        poisonous=poisoned,
        dead=len(seen.dead),
        done=len(seen.waits_s),
        slowdown_p95=round(seen.p95_s / without.p95_s, 3),
    )
    return without, seen, seed


def test_three_poisonous_users_of_forty_are_given_up_and_delay_nobody(training, basis):
    compare(training, basis, 40, 3)


@pytest.mark.long
def test_twenty_poisonous_users_of_five_hundred_are_given_up_and_delay_nobody(training, basis):
    compare(training, basis, 500, 20)


def test_who_brings_trainers_down_goes_alone_and_takes_nobody_along(training, basis):
    training.give_basis(basis)
    whom = people(training, 12, "mixed")
    seen = story(training, whom, set(whom[3:5]), deadly=True)
    assert seen.dead == set(whom[3:5])
    assert seen.attempts == {training.settings.attempts.max_crashes}
    assert seen.last_company == {1}


def test_a_dead_user_goes_on_sending_and_is_tried_again_after_enough(training, basis):
    training.give_basis(basis)
    [user] = people(training, 1, "mixed")
    story(training, [user], {user})
    training.clock.advance(3600)
    more = [(f"my {text}", label) for text, label in training.taste(0, 40)]
    limits = training.settings.trigger
    training.record("mixed-0", more[: limits.min_fresh_dead - 1], first=100)
    assert training.scheduler.consider(user, training.clock.now()).code == "dead_letter"
    assert training.scheduler.tick(training.clock.now()) == 0
    training.record("mixed-0", more[limits.min_fresh_dead - 1 :], first=200)
    assert training.scheduler.tick(training.clock.now()) == 1
    training.scheduler.work_once(training.clock.now())
    assert training.store.current_version(user) is not None
    assert training.store.dead_letters(training.tenant) == []
