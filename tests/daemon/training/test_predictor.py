"""Each text is answered as its user's current adapter has it, or as nobody."""

import pickle

import pytest

from daemon.predictor import GENERIC, NoBasis
from storage import EventKind, NewEvent
from tests.daemon.training.conftest import ask

TEXTS = ("the blue shoe", "my red hat", "a red cup", "the blue pen")


def test_without_a_basis_there_is_nothing_to_predict_with(training):
    with pytest.raises(NoBasis) as refused:
        ask(training, [(None, "the red shoe")])
    copy = pickle.loads(pickle.dumps(refused.value))  # noqa: S301 - our own value
    assert (type(copy), str(copy)) == (NoBasis, str(refused.value))


@pytest.mark.usefixtures("users")
def test_each_user_is_answered_by_their_own_adapter(training):
    training.work()
    rows = [(user, text) for text in TEXTS for user in ("late-0", "late-1")]
    answers = ask(training, rows)
    right = [
        answer.prediction.label == ("good" if ("red", "blue")[int(user[-1])] in text else "bad")
        for (user, text), answer in zip(rows, answers, strict=True)
    ]
    assert all(right)
    assert {answer.version for answer in answers} == {1}
    assert all(answer.known_user for answer in answers)


@pytest.mark.usefixtures("users")
def test_nobody_an_unknown_user_and_a_newcomer_are_answered_alike(training):
    training.record("fresh", training.taste(0, 1))
    answers = ask(training, [(None, TEXTS[0]), ("stranger", TEXTS[0]), ("fresh", TEXTS[0])])
    assert len({answer.prediction.confidence for answer in answers}) == 1
    assert {answer.version for answer in answers} == {GENERIC}
    assert [answer.known_user for answer in answers] == [False, False, True]


def test_a_mixed_batch_answers_as_each_alone(training, users):
    training.work()
    rows = [("late-0", TEXTS[0]), (None, TEXTS[0]), ("late-1", TEXTS[0]), ("late-0", TEXTS[1])]
    together = ask(training, rows)
    alone = [ask(training, [row])[0] for row in rows]
    confidences = [answer.prediction.confidence for answer in alone]  # batches of other shapes round otherwise
    assert [answer.prediction.confidence for answer in together] == pytest.approx(confidences, rel=1e-4)


def test_rolling_back_shows_at_once(training, users):
    training.work()
    assert ask(training, [("late-1", TEXTS[0])])[0].version == 1
    training.store.rollback(users[1], 0, "host", training.clock.now())
    assert ask(training, [("late-1", TEXTS[0])])[0].version == GENERIC


@pytest.mark.usefixtures("users")
def test_a_forgotten_user_is_nobody_at_once(training):
    training.work()
    ask(training, [("late-1", TEXTS[0])])
    training.store.forget(training.tenant, "late-1", "host", training.clock.now())
    (answer,) = ask(training, [("late-1", TEXTS[0])])
    assert (answer.version, answer.known_user) == (GENERIC, False)


@pytest.mark.usefixtures("users")
def test_an_adapter_goes_on_with_the_basis_it_was_made_for(training):
    training.work()
    before = ask(training, [("late-1", TEXTS[0])])
    newer = training.train_basis()
    rows = [("late-1", TEXTS[0]), (None, TEXTS[0])]
    after = ask(training, rows)
    assert after[1].basis == newer != before[0].basis == after[0].basis
    assert after[0].prediction == before[0].prediction


@pytest.mark.usefixtures("users")
def test_another_tenants_user_is_a_stranger(training, basis):
    training.work()
    other = training.store.ensure_tenant("other", training.clock.now()).id
    event = NewEvent("/tests", "1", "late-1", EventKind.EXAMPLE, training.content("the red pen", "good"), None, None)
    training.store.record_events(other, [event], training.clock.now(), default_consent=True)
    with pytest.raises(NoBasis):
        ask(training, [("late-1", TEXTS[0])], other)


@pytest.mark.usefixtures("users")
def test_no_rows_no_answers(training):
    assert ask(training, []) == []
