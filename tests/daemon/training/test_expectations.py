"""What users of a Basis gain is read from their newest versions, and told to Prometheus."""

import json

import pytest

from daemon.expectations import LOOK_S, Expectations
from policies.promotion import Bar, Part
from storage import VersionState

BAR = Bar(expected_users=4)


@pytest.fixture
def expectations(training) -> Expectations:
    return Expectations(training.store, BAR, training.metrics, training.clock.now)


def test_before_anybody_was_judged_nothing_is_expected(training, expectations):
    expectations.look_before("basis")
    assert expectations.of("basis", Part.WHOLE) == BAR.neutral
    assert training.count("plora_population_gain_nats") == 0


def test_users_of_a_basis_are_expected_to_gain_what_its_users_gained(training, users, basis, expectations):
    training.work()
    expectations.look_before(basis.fingerprint)
    whole, alone = (expectations.of(basis.fingerprint, part) for part in Part)
    told = [json.loads(training.store.versions(user)[-1].scores) for user in users]
    assert whole.gain == pytest.approx(sum(each["gain"] for each in told) / 6)
    assert alone.gain == pytest.approx(sum(each["label_bias"]["gain"] for each in told) / 6)
    assert expectations.of("another", Part.WHOLE) == BAR.neutral


def test_the_gauges_are_of_those_who_are_served(training, users, expectations):
    training.work()
    expectations.look()
    served = [v for user in users for v in training.store.versions(user) if v.state is VersionState.CURRENT]
    believed = [json.loads(each.scores)["believed"] for each in served]
    assert training.count("plora_population_gain_nats") == pytest.approx(
        sum(each["gain"] for each in believed) / len(served)
    )
    harmed = sum(1 - each["certainty"] for each in believed) / len(served)
    assert training.count("plora_harmed_ratio") == pytest.approx(harmed)
    for user in users:
        training.store.rollback(user, 0, "host", training.clock.now())
    expectations.look()
    assert training.count("plora_population_gain_nats") == 0


def test_a_look_is_taken_when_the_last_one_is_old_or_found_too_few(training, users, basis, expectations):
    expectations.look_before(basis.fingerprint)
    training.work()
    expectations.look_before(basis.fingerprint)  # nothing was known: no need to wait
    first = expectations.of(basis.fingerprint, Part.WHOLE)
    assert first != BAR.neutral
    training.store.forget(training.tenant, "late-1", "host", training.clock.now())
    expectations.look_before(basis.fingerprint)
    assert expectations.of(basis.fingerprint, Part.WHOLE) == first
    training.clock.advance(LOOK_S)
    expectations.look_before(basis.fingerprint)
    assert expectations.of(basis.fingerprint, Part.WHOLE) != first


@pytest.mark.usefixtures("users")
def test_upkeep_sets_the_gauges_after_a_restart(training):
    training.work()
    later = training.with_trainer(training.trainer)
    assert later.count("plora_population_gain_nats") == 0
    later.scheduler.keep_up()
    assert later.count("plora_population_gain_nats") > 0
