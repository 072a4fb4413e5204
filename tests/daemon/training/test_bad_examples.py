"""What users send is never refused by a crash, and never makes anybody worse off than the generic model."""

import json
import random

import pytest

import plora
from daemon.predict_messages import PredictRequest, Row
from storage import EventKind, NewEvent, RunState

PLACES = [f"{a} {b} {c}" for a in ("the", "a", "my") for b in ("red", "blue") for c in ("shoe", "coat", "lamp", "cup")]


@pytest.fixture
def daemon(training, basis):
    training.give_basis(basis)
    return training


def send(daemon, pairs: list[tuple[str, str]], *, user: str = "odd", first: int = 0, kind=EventKind.EXAMPLE) -> str:
    """As `record`, but for any text at all."""
    events = [
        NewEvent("/tests", f"{user}-{first + at}", user, kind, json.dumps({"text": text, "label": label}).encode())
        for at, (text, label) in enumerate(pairs)
    ]
    outcomes = daemon.store.record_events(daemon.tenant, events, daemon.clock.now(), default_consent=True)
    return outcomes[0].user


def run_of(daemon, user: str):
    return next(run for run in daemon.store.runs(limit=500) if run.user == user)


def harm(daemon, user: str, unseen: list[tuple[str, str]]) -> float:
    """Nats per example by which what the user is served loses to the generic model on what they say next."""
    stored = daemon.store.current_adapter(user)
    if stored is None:
        return 0.0
    fingerprint = daemon.store.current_basis(daemon.tenant).fingerprint
    judged = plora.Judged(plora.loads_adapter(stored.content), [], [plora.Example(*pair) for pair in unseen])
    content = daemon.store.basis_content(fingerprint, daemon.tenant)
    (scores,) = plora.score(daemon.trainer._models.base, plora.loads_basis(content), [judged])
    return -scores.gain


def test_somebody_whose_labels_the_basis_does_not_know_gets_nothing(daemon):
    user = send(daemon, [(text, f"label-{at}") for at, text in enumerate(PLACES)])
    daemon.work()
    assert (run_of(daemon, user).state, run_of(daemon, user).error_code) == (RunState.FAILED, "no_examples")


def test_of_somebody_with_a_few_known_labels_only_those_count(daemon, taste):
    user = send(daemon, [*((text, "unheard of") for text in PLACES), ("my red hat", "good"), ("a blue bag", "bad")])
    daemon.work()
    (version,) = daemon.store.versions(user)
    assert version.code == "too_little_evidence"
    assert json.loads(version.scores)["examples"] == 2


@pytest.mark.parametrize("label", ["good", "bad"])
def test_somebody_who_always_says_the_same_is_served_no_worse(daemon, label):
    user = send(daemon, [(text, label) for text in PLACES[:16]])
    daemon.work()
    assert len(daemon.store.versions(user)) == 1
    assert harm(daemon, user, [(text, label) for text in PLACES[16:]]) <= 0


def test_the_last_of_contradictory_duplicates_counts(daemon, taste):
    pairs = taste(1, 20)
    contrary = [(text, "bad" if label == "good" else "good") for text, label in pairs]
    user = send(daemon, [*contrary, *pairs, *contrary, *pairs])
    daemon.work()
    (version,) = daemon.store.versions(user)
    assert json.loads(version.scores)["examples"] == 20
    assert version.code == "beats_generic"
    assert harm(daemon, user, taste(1, 40)[20:]) < 0


def test_one_text_with_every_label_is_one_example_and_too_few(daemon):
    user = send(daemon, [("the red shoe", "good"), ("the red shoe", "bad")] * 6)
    daemon.work()
    assert (run_of(daemon, user).state, run_of(daemon, user).error_code) == (RunState.CANCELLED, "not_enough")


def test_two_and_three_texts_are_learnt_from_and_never_served(daemon):
    users = [send(daemon, [(text, "good") for text in PLACES[:n]] * 8, user=f"few-{n}") for n in (2, 3)]
    daemon.work()
    for user, count in zip(users, (2, 3), strict=True):
        (version,) = daemon.store.versions(user)
        assert version.code == "too_little_evidence"
        assert json.loads(version.scores)["examples"] == count
    assert all(daemon.store.current_version(user) is None for user in users)


def test_of_ten_thousand_examples_the_newest_are_used(daemon, taste):
    pairs = [(f"{text} is {at}", label) for at in range(334) for text, label in taste(1, 30)][:10_000]
    for first in range(0, len(pairs), 2_000):
        user = send(daemon, pairs[first : first + 2_000], first=first)
    daemon.work()
    (version,) = daemon.store.versions(user)
    assert json.loads(version.scores)["examples"] == daemon.settings.selection.max_examples
    assert harm(daemon, user, taste(1, 40)[30:]) <= 0


SCRIPTS = [
    "Это хорошая вещь",
    "これは良い",
    "هذا جيد جدا",
    "ของดีมาก",
    "כלב טוב",
    "好き嫌い",
    "मुझे पसंद है",
    "🙂🙃🙂",
    "\u200b",
    "Ωμέγα",
]


@pytest.mark.parametrize(
    "texts",
    [
        [f"{text} {at}" for at in range(2) for text in SCRIPTS],
        ["", " ", "  ", "\n", "\t", "\x00", ".", "..", "...", "?"],
        [word * 4000 for word in ("a ", "b ", "red ", "é ", "日 ", "\ufffd ", "0 ", "- ")],
    ],
    ids=["scripts", "nothing", "length"],
)
def test_any_text_is_learnt_from_and_serves_nobody_worse(daemon, texts):
    """Labels by chance: there is nothing to gain, and what is served may not be worse by more than chance."""
    draw = random.Random(len(texts))
    user = send(daemon, [(text, draw.choice(("good", "bad"))) for text in texts])
    daemon.work()
    assert len(daemon.store.versions(user)) == 1
    assert harm(daemon, user, [(text, label) for text in PLACES for label in ("good", "bad")]) <= 0.05
    served = daemon.store.current_adapter(user)
    rows = tuple(Row(text, served.content if served else None) for text in texts)
    answer = daemon.trainer.predict(
        PredictRequest(daemon.store.current_basis(daemon.tenant).fingerprint, rows), lambda: b"", lambda _: None
    )
    assert len(answer.predictions) == len(texts)


def test_people_who_answer_by_chance_are_left_to_the_generic_model(daemon):
    draw = random.Random(11)
    users = [
        send(daemon, [(text, draw.choice(("good", "bad"))) for text in PLACES[:16]], user=f"coin-{at}")
        for at in range(40)
    ]
    daemon.work()
    served = [user for user in users if daemon.store.current_version(user)]
    assert len(served) <= 10  # chance passes a bar of 0.7 now and then
    pairs = [(text, label) for text in PLACES for label in ("good", "bad")]
    assert sum(harm(daemon, user, pairs) for user in served) / len(users) <= 0.02
    assert (
        sum(harm(daemon, user, [(text, label) for text in PLACES[16:] for label in ("good", "bad")]) for user in users)
        / 40
        < 0.02
    )
