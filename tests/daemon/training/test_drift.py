"""A user who changes is noticed, rolled back if need be, and followed; one who does not is left alone."""

import json
from dataclasses import replace

import pytest

import plora
from daemon.messages import FitAnswer, MemberFitted
from daemon.trainer_errors import TrainerLost
from policies.trigger import Limits
from storage import VersionState
from tests.daemon.training.conftest import ask

OFTEN = Limits(min_fresh=8, cooldown_s=0.0)


def flipped(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(text, "bad" if label == "good" else "good") for text, label in pairs]


class Asked:
    """A trainer that remembers what it was asked, and may fail."""

    def __init__(self, real) -> None:
        self.real, self.members, self.errors = real, [], []

    def fit(self, request, basis) -> FitAnswer:
        self.members.append(request.members)
        if error := self.errors and self.errors.pop(0):
            raise error
        return self.real.fit(request, basis)

    def __getattr__(self, name: str):
        return getattr(self.real, name)


@pytest.fixture
def daemon(training, basis):
    training.give_basis(basis)
    return training.with_trainer(Asked(training.trainer), trigger=OFTEN)


@pytest.fixture
def user(daemon, taste) -> str:
    """Somebody served an adapter of their own, made from 24 examples."""
    made = daemon.record("ann", taste(1, 40)[:24])
    daemon.clock.advance(1)
    daemon.work()
    assert daemon.store.current_version(made).version == 1
    daemon.trainer.members.clear()
    return made


def scores(daemon, user: str) -> dict:
    return json.loads(daemon.store.versions(user)[-1].scores)


def test_whoever_stays_the_same_is_refitted_and_keeps_their_history(daemon, user, taste):
    daemon.record("ann", taste(1, 40)[24:32], first=100)
    daemon.clock.advance(1)
    daemon.work()
    assert len(daemon.trainer.members) == 1
    assert scores(daemon, user)["drift"] == "steady"
    assert scores(daemon, user)["since"] is None
    assert scores(daemon, user)["fresh"] == 8
    assert daemon.count("plora_drift_total", state="steady") == 1
    assert daemon.store.current_version(user).version == 2


def test_whoever_flips_is_followed_after_eight_examples(daemon, user, taste):
    daemon.record("ann", flipped(taste(1, 40)[24:32]), first=100)
    daemon.clock.advance(1)
    daemon.work()
    (refit,), (everything, since) = daemon.trainer.members
    assert [len(each.learn) for each in (refit, everything, since)] == [32, 32, 8]
    assert [each.covered for each in (refit, everything, since)] == [24, 0, 0]
    assert scores(daemon, user)["drift"] == "loses"
    first = min(event.seq for event in daemon.store.events(user)[24:])
    assert scores(daemon, user)["since"] == first
    assert daemon.count("plora_drift_total", state="rolled_back") == 1
    assert daemon.count("plora_versions_total", decision="rolled_back") == 1
    assert daemon.store.versions(user)[0].state is VersionState.RETIRED
    daemon.record("ann", flipped(taste(1, 40)[32:]), first=200)
    daemon.clock.advance(1)
    daemon.work()
    assert {len(member.learn) for member in daemon.trainer.members[2]} == {16}
    version = daemon.store.current_version(user)
    assert version is not None
    assert json.loads(version.scores)["since"] == first
    answers = ask(daemon, [("ann", "my blue hat"), ("ann", "my red hat")])
    assert [answer.prediction.label for answer in answers] == ["bad", "good"]


def test_a_version_that_loses_serves_no_more_even_if_nothing_takes_its_place(daemon, user, taste):
    """Four who contradict themselves are no evidence for anything else."""
    strict = daemon.with_trainer(
        daemon.trainer,
        promotion=replace(daemon.settings.promotion, min_examples=20),
        trigger=replace(OFTEN, min_fresh=4),
    )
    strict.record("ann", flipped(taste(1, 40)[24:29]), first=100)
    strict.clock.advance(1)
    strict.work()
    assert strict.store.current_version(user) is None
    assert [each.state for each in strict.store.versions(user)] == [VersionState.RETIRED, VersionState.REJECTED]
    assert strict.store.verify_audit().ok
    assert ask(strict, [("ann", "my red hat")])[0].version == 0


def test_where_the_second_fit_fails_the_first_one_stands(daemon, user, taste):
    daemon.trainer.errors = [None, TrainerLost()]
    daemon.record("ann", flipped(taste(1, 40)[24:32]), first=100)
    daemon.clock.advance(1)
    daemon.work()
    assert len(daemon.trainer.members) == 2
    assert len(daemon.store.versions(user)) == 2
    assert scores(daemon, user)["since"] is None
    assert daemon.store.versions(user)[0].state is VersionState.RETIRED


def test_a_version_that_the_host_replaced_meanwhile_is_not_rolled_back(daemon, user, taste):
    """What was looked at is version 1; by the time of the verdict the generic model serves."""
    asked = daemon.trainer.real

    class Slow:
        def fit(self, request, basis):
            if daemon.store.current_version(user):
                daemon.store.rollback(user, 0, "host", daemon.clock.now())
            return asked.fit(request, basis)

        def __getattr__(self, name: str):
            return getattr(asked, name)

    slow = daemon.with_trainer(Slow(), promotion=replace(daemon.settings.promotion, min_examples=60))
    slow.record("ann", flipped(taste(1, 40)[24:32]), first=100)
    slow.clock.advance(1)
    slow.work()
    assert slow.store.current_version(user) is None
    assert len(slow.store.versions(user)) == 2


def test_the_losses_that_tell_of_a_change_are_numbers_of_the_fresh_examples(daemon, user, taste):
    daemon.record("ann", flipped(taste(1, 40)[24:32]), first=100)
    daemon.clock.advance(1)
    heard = []
    real = daemon.trainer.real
    daemon.trainer.real = type(
        "Hearing", (), {"fit": lambda _, request, basis: heard.append(real.fit(request, basis)) or heard[-1]}
    )()
    daemon.work()
    everything, since = heard[1].outcomes
    assert isinstance(since, MemberFitted)
    assert len(everything.fresh) == len(since.fresh) == 8
    assert sum(each.current for each in since.fresh) > sum(each.generic for each in since.fresh)
    assert sum(each.candidate for each in since.fresh) < sum(each.candidate for each in everything.fresh)
    assert plora.loads_adapter(since.whole.adapter).basis == plora.loads_adapter(everything.whole.adapter).basis
