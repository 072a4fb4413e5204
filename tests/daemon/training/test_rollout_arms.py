"""While a rollout is open each user is answered by the version of their arm, and the answer says which."""

import pytest

from daemon import clock
from daemon.arms import CurrentArm
from daemon.bases import BasisContents
from daemon.predictor import Asked, Predictor
from daemon.rollouts import Rollouts
from policies import Policies
from storage import NewRollout

TEXT = "the blue shoe"


@pytest.fixture
def rollouts(training):
    return Rollouts(
        training.store,
        Policies(),
        training.metrics,
        now=training.clock.now,
        monotonic=clock.monotonic,
        moves_days=90,
    )


def answers(training, arms, whom) -> dict[str, tuple[str | None, int, str]]:
    """By user, the arm, version and label."""
    predictor = Predictor(training.store, training.trainer, BasisContents(training.store), arms)
    told = predictor.predict(training.tenant, [Asked(user, TEXT) for user in whom])
    return {
        user: (each.speaking.arm, each.speaking.version, each.prediction.label)
        for user, each in zip(whom, told, strict=True)
    }


@pytest.mark.usefixtures("users")
def test_each_arm_is_answered_by_its_version(training, rollouts):
    training.work()
    whom = [f"late-{number}" for number in range(6)]
    without = answers(training, CurrentArm(), whom)
    assert {version for _, version, _ in without.values()} == {1}
    opened = rollouts.start_one(training.tenant, NewRollout("a", "generic", 0.5, "{}"), "op")
    during = answers(training, rollouts, [*whom, "stranger"])
    assert during["stranger"][:2] == (None, 0)
    generic = during["stranger"][2]
    for user in whom:
        arm, version, label = during[user]
        assert (arm, version, label) in {("current", 1, without[user][2]), ("generic", 0, generic)}
    lost = rollouts.end_one(opened, "returning", ("surely_not_better", "it is not"), "op")
    rollouts.look(training.clock.now())
    after = answers(training, rollouts, whom)
    assert {(arm, version) for arm, version, _ in after.values()} == {(None, 0)}
    assert training.store.rollout(training.tenant, lost.id).state == "rolled_back"


def test_against_the_version_before_each_user_has_their_own(training, rollouts, users):
    training.work()
    for user in users[:3]:
        training.store.rollback(user, 0, "op", training.clock.advance(1))
    again = {f"late-{number}": number for number in range(6)}
    for user, number in again.items():
        training.record(user, training.taste(number, 20, seed=2), first=100)
    training.clock.advance(100)
    training.work()
    served = training.store.serving(training.tenant, list(again), previous=True).users
    twice = {user for user, each in served.items() if each.current is not None and each.previous is not None}
    assert twice
    rollouts.start_one(training.tenant, NewRollout("a", "previous", 0.5, "{}"), "op")
    for user, (arm, version, _) in answers(training, rollouts, list(again)).items():
        each = served[user]
        if user not in twice:
            assert (arm, version) == (None, each.current.version if each.current else 0)
        elif arm == "current":
            assert version == each.current.version
        else:
            assert (arm, version) == ("previous", each.previous.version)
