"""Events become judged adapters, whatever dies on the way."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from daemon.messages import (
    BasisProgress,
    BasisRequest,
    BasisTrained,
    FitAnswer,
    FitRequest,
    MemberFailed,
)
from daemon.predict_messages import GenerateRequest, Piece, PredictAnswer, PredictRequest
from daemon.trainer_errors import TrainerError, TrainerFailed, TrainerLost, TrainerUnavailable
from policies.attempts import Patience
from policies.trigger import Train, Wait
from storage import EventKind, NewEvent, RunState, VersionState
from tests.daemon.training.conftest import ask


class Unreliable:
    """A trainer in front of a real one that fails when told to, or waits."""

    def __init__(self, real, errors=()):
        self.real, self.errors, self.asked = real, list(errors), []
        self.before = lambda: None

    def ready(self) -> bool:
        return True

    def fit(self, request: FitRequest, basis) -> FitAnswer:
        self.asked.append(tuple(member.run for member in request.members))
        self.before()
        if self.errors:
            raise self.errors.pop(0)
        return self.real.fit(request, basis)

    def train_basis(self, request: BasisRequest, population) -> BasisTrained:
        if self.errors:
            raise self.errors.pop(0)
        return self.real.train_basis(request, population)

    def progress(self, basis: str) -> BasisProgress | None:
        return self.real.progress(basis)

    def forget_population(self, basis: str) -> None:
        self.real.forget_population(basis)

    def predict(self, request: PredictRequest, basis, adapter) -> PredictAnswer:
        return self.real.predict(request, basis, adapter)

    def generate(self, request: GenerateRequest, basis, adapter) -> Iterator[Piece]:
        return self.real.generate(request, basis, adapter)

    def close(self) -> None:
        self.real.close()


def test_nobody_is_trained_before_a_basis_is_ready(training):
    (user,) = training.people(1)
    assert training.scheduler.consider(user, training.clock.now()).code == "no_basis"
    assert training.work() == 0


def test_an_unknown_user_waits(training):
    assert training.scheduler.consider("0" * 32, training.clock.now()).code == "unknown_user"


def test_a_basis_is_trained_and_then_everyone_who_is_due_gets_an_adapter(training):
    users = training.people(16, 30)
    basis = training.train_basis()
    for user in users:
        (version,) = training.store.versions(user)
        assert version.basis == basis
        assert version.state in {VersionState.CURRENT, VersionState.REJECTED}
    promoted = [user for user in users if training.store.current_version(user)]
    assert len(promoted) >= 12
    assert training.count("plora_versions_total", decision="promoted") == len(promoted)


def test_a_newcomer_gets_an_adapter_that_wins(training, basis):
    training.give_basis(basis)
    user = training.record("newcomer", training.taste(1, 16))
    assert isinstance(training.scheduler.consider(user, training.clock.now()), Train)
    training.scheduler.work_once(training.clock.now())
    version = training.store.current_version(user)
    assert version is not None
    assert version.code == "beats_generic"
    assert training.store.activity(user, training.clock.now()).fresh == 0


def test_no_run_is_opened_without_consent(training, basis):
    training.give_basis(basis)
    user = training.record("shy", training.taste(1, 16), consent=False)
    assert training.scheduler.consider(user, training.clock.now()).code == "not_consented"
    training.work()
    assert training.store.versions(user) == []


def test_few_different_texts_cancel_the_run(training, basis):
    training.give_basis(basis)
    user = training.record("repeater", [("the red shoe", "good")] * 9)
    training.work()
    (run,) = [run for run in training.store.runs() if run.user == user]
    assert run.state is RunState.CANCELLED
    assert run.error_code == "not_enough"
    assert training.count("plora_runs_total", outcome="cancelled", code="not_enough") == 1
    assert isinstance(training.scheduler.consider(user, training.clock.now()), Wait)


@pytest.mark.parametrize(
    ("error", "attempts", "crashes"),
    [
        (TrainerUnavailable(), 0, 0),
        (TrainerFailed("RuntimeError"), 1, 0),
        (TrainerLost(), 1, 1),
        (TrainerFailed("OutOfMemoryError"), 1, 1),
    ],
)
def test_a_failed_trainer_puts_every_run_back(training, error, attempts, crashes, users):
    broken = training.with_trainer(Unreliable(training.trainer, [error]))
    broken.work()
    runs = broken.store.runs(state=RunState.QUEUED)
    assert {run.user for run in runs} == set(users)
    assert {(run.error_code, run.attempts, run.crashes) for run in runs} == {(error.code, attempts, crashes)}
    assert all(run.run_at > training.clock.now() for run in runs)
    training.clock.advance(60)
    broken.work()
    assert all(broken.store.versions(user) for user in users)


def test_an_absent_trainer_never_fails_a_run(training, users):
    absent = training.with_trainer(Unreliable(training.trainer, [TrainerUnavailable() for _ in range(12)]))
    for _ in range(12):
        training.clock.advance(120)
        absent.work()
    training.clock.advance(120)
    absent.work()
    assert all(absent.store.versions(user) for user in users)
    assert absent.store.runs(state=RunState.FAILED) == []


def test_runs_that_lost_a_trainer_twice_go_alone_and_end(training, users):
    deadly = Unreliable(training.trainer, [TrainerLost() for _ in range(100)])
    broken = training.with_trainer(deadly)
    for _ in range(4):
        training.clock.advance(60)
        broken.work()
    assert max(map(len, deadly.asked[:2])) == len(users)
    assert max(map(len, deadly.asked[2:])) == 1
    assert {run.error_code for run in broken.store.runs(state=RunState.FAILED)} == {"trainer_lost"}
    deadly.errors.clear()
    training.clock.advance(120)
    assert broken.work() == 0
    assert {training.scheduler.consider(user, training.clock.now()).code for user in users} == {"dead_letter"}
    assert len(training.store.retry_dead(training.tenant, None, 100, "tests", training.clock.now())) == len(users)
    broken.work()
    assert all(broken.store.versions(user) for user in users)


def test_a_run_that_expired_meanwhile_is_finished_once(training, users):
    slow = Unreliable(training.trainer)
    first, second = training.with_trainer(slow), training.with_trainer(training.trainer)

    def be_overtaken() -> None:
        slow.before = lambda: None
        training.clock.advance(training.settings.lease_s + 1)
        assert second.scheduler.work_once(training.clock.now()) == len(users)

    slow.before = be_overtaken
    first.work()
    assert all(len(training.store.versions(user)) == 1 for user in users)
    assert first.count("plora_fence_rejections_total") == len(users)
    assert second.count("plora_runs_total", outcome="succeeded", code="beats_generic") > 0


def test_a_user_forgotten_while_the_trainer_works_gets_no_adapter(training, users):
    slow = Unreliable(training.trainer)
    slow.before = lambda: training.store.forget(training.tenant, "late-1", "host", training.clock.now())
    daemon = training.with_trainer(slow)
    daemon.work()
    assert daemon.store.versions(users[1]) == []
    assert all(daemon.store.versions(user) for user in users if user != users[1])
    assert daemon.count("plora_fence_rejections_total") == 1


def test_one_bad_member_does_not_harm_the_others(training, users):
    odd = training.record("odd", [(f"{text} is", f"label-{at}") for at, (text, _) in enumerate(training.taste(0, 16))])
    training.work()
    (run,) = [run for run in training.store.runs() if run.user == odd]
    assert run.state is RunState.FAILED
    assert run.error_code in {"no_examples", "nothing_held_out"}
    assert all(training.store.versions(user) for user in users)


@pytest.mark.usefixtures("users")
def test_a_label_that_the_basis_lacks_is_left_out(training):
    user = training.record("mixed", [*training.taste(1, 20), ("the red box is", "unheard of")])
    training.work()
    assert training.store.current_version(user) is not None


@pytest.mark.usefixtures("users")
def test_a_correction_replaces_the_example(training):
    pairs = training.taste(1, 20)
    user = training.record("changed", [(text, "good" if label == "bad" else "bad") for text, label in pairs])
    corrections = [
        NewEvent("/tests", f"fix-{at}", "changed", EventKind.CORRECTION, training.content(text, label), None, None)
        for at, (text, label) in enumerate(pairs)
    ]
    training.store.record_events(training.tenant, corrections, training.clock.advance(1))
    training.work()
    answers = ask(training, [("changed", "the blue shoe"), ("changed", "my red hat")])
    assert training.store.current_version(user) is not None
    assert [answer.prediction.label for answer in answers] == ["good", "bad"]


@pytest.mark.usefixtures("users")
def test_the_adapter_in_use_is_judged_beside_the_new_one(training):
    training.work()
    user = training.record("late-1", training.taste(1, 30)[20:], first=100)
    seen = Unreliable(training.trainer)
    requests = []
    seen.fit = lambda request, basis: requests.append(request) or training.trainer.fit(request, basis)
    training.clock.advance(120)
    training.with_trainer(seen).work()
    (member,) = requests[0].members
    assert member.current == training.store.adapter(user, 1).content
    assert len(training.store.versions(user)) == 2


def test_everything_teaches_the_user_and_only_what_the_basis_has_not_seen_judges(training):
    training.people(8)
    seen = []
    trainer = Unreliable(training.trainer)
    trainer.train_basis = lambda request, population: (
        seen.append(list(population())) or training.trainer.train_basis(request, population)
    )
    trainer.fit = lambda request, basis: seen.append(request) or training.trainer.fit(request, basis)
    daemon = training.with_trainer(trainer)
    daemon.train_basis()
    daemon.work()
    trained, fitted = seen
    by_user = [{text for text, _ in user} for shard in trained for user in shard]
    for member in fitted.members:
        learn = [text for text, _ in member.learn]
        assert len(learn) == len(set(learn)) == 20
        assert len(member.judged) == 7
        assert {text for at, text in enumerate(learn) if at not in member.judged} in by_user


def test_too_few_users_fail_the_basis(training):
    training.people(2)
    record = training.store.open_basis(training.tenant, "main", "", training.clock.now())
    training.scheduler.work_once(training.clock.now())
    assert training.store.basis(record.id).error_code == "too_few_users"


@pytest.mark.parametrize("error", [TrainerUnavailable(), TrainerLost(), TrainerFailed("RuntimeError")])
def test_a_basis_survives_a_failed_trainer(training, error: TrainerError):
    training.people(6)
    daemon = training.with_trainer(Unreliable(training.trainer, [error]))
    record = daemon.store.open_basis(training.tenant, "main", "", training.clock.now())
    daemon.scheduler.work_once(training.clock.now())
    assert daemon.store.basis(record.id).error_code == error.code
    daemon.scheduler.work_once(training.clock.advance(60))
    assert daemon.store.current_basis(training.tenant) is not None


def test_the_loop_does_it_all_by_itself_and_stops(training):
    users = training.people(8)
    training.store.open_basis(training.tenant, "main", "", training.clock.now())
    training.scheduler.start()
    training.scheduler.nudge()
    assert training.scheduler.wait_idle(60)
    training.scheduler.stop()
    assert all(training.store.versions(user) for user in users)


def test_several_replicas_share_what_is_claimed(training, users):
    both = threading.Barrier(2, timeout=60)
    shared = Unreliable(training.trainer)
    shared.before = lambda: both.wait() and None
    daemon = training.with_trainer(shared, replicas=2)
    daemon.scheduler.start()
    daemon.scheduler.nudge()
    assert daemon.scheduler.wait_idle(60)
    daemon.scheduler.stop()
    assert sorted(map(len, shared.asked)) == [3, 3]
    assert all(daemon.store.versions(user) for user in users)


def test_stop_puts_claims_back_into_the_queue(training, users):
    stuck, asked = Unreliable(training.trainer), threading.Event()
    go_on = threading.Event()

    def wait() -> None:
        asked.set()
        go_on.wait(60)

    stuck.before = wait
    daemon = training.with_trainer(stuck, stop_s=0.1)
    daemon.scheduler.start()
    daemon.scheduler.nudge()
    assert asked.wait(30)
    daemon.scheduler.stop()
    runs = daemon.store.runs(state=RunState.QUEUED)
    go_on.set()
    assert {run.user for run in runs} == set(users)
    assert all(run.run_at <= training.clock.now() + timedelta(seconds=1) for run in runs)
    training.work()
    assert all(training.store.versions(user) for user in users)


@pytest.mark.usefixtures("users")
def test_a_member_that_fails_is_counted_by_its_code(training):
    failing = Unreliable(training.trainer)
    failing.fit = lambda request, _: FitAnswer(
        tuple(MemberFailed(member.run, "not_finite") for member in request.members), 0.0, 0.0
    )
    daemon = training.with_trainer(failing, attempts=Patience(max_errors=2))
    daemon.work()
    daemon.scheduler.work_once(training.clock.advance(60))
    assert daemon.count("plora_runs_total", outcome="retried", code="not_finite") == 6
    assert daemon.count("plora_runs_total", outcome="failed", code="not_finite") == 6
