"""What a trainer gives back passes the gate; what is lost of the stored is replaced while the daemon goes on."""

import hashlib
import struct
from dataclasses import replace

import pytest

import plora
from daemon.bases import BasisContents
from daemon.gated_trainer import GatedTrainer
from daemon.gatekeeper import Gatekeeper
from daemon.in_process_trainer import InProcessTrainer
from daemon.messages import BasisRequest, BasisTrained, FitAnswer, MemberFitted
from daemon.models import Models
from daemon.predictor import GENERIC
from storage import BasisState, RunState, Unreadable
from tests.daemon.training.conftest import ask


class Spoiling:
    """A trainer whose answers are changed on their way."""

    def __init__(self, real, spoil):
        self.real, self.spoil = real, spoil

    def __getattr__(self, name):
        return getattr(self.real, name)

    def fit(self, request, basis) -> FitAnswer:
        answer = self.real.fit(request, basis)
        return replace(answer, outcomes=tuple(self.spoil(at, each) for at, each in enumerate(answer.outcomes)))

    def train_basis(self, request: BasisRequest, population) -> BasisTrained:
        return self.spoil(len(list(population())), request)


@pytest.fixture(scope="module")
def gatekeeper():
    made = Gatekeeper()
    yield made
    made.close()


@pytest.fixture
def gated(training, gatekeeper):
    """The training side behind the gate, with a trainer that spoils what it is told to."""

    def make(spoil):
        spoiling = Spoiling(training.trainer, spoil)
        behind = GatedTrainer(spoiling, gatekeeper, training.store, metrics=training.metrics, now=training.clock.now)
        made = training.with_trainer(behind)
        behind._metrics = made.metrics
        return made

    return make


def forged(adapter: bytes, number: float) -> bytes:
    """The adapter with another first number, and a digest that fits."""
    body = adapter[:72] + struct.pack("<f", number) + adapter[76:-32]
    return body + hashlib.sha256(body).digest()


def longer(adapter: bytes) -> bytes:
    """The adapter with one number more, and a digest that fits."""
    (d,) = struct.unpack_from("<H", adapter, 4)
    body = adapter[:4] + struct.pack("<H", d + 1) + adapter[6:-32] + bytes(4)
    return body + hashlib.sha256(body).digest()


SPOILT = {
    "digest": lambda adapter: adapter[:-1] + bytes([adapter[-1] ^ 1]),
    "not_finite": lambda adapter: forged(adapter, float("nan")),
    "magnitude": lambda adapter: forged(adapter, 1e30),
    "dimensions": longer,
    "pickle": lambda adapter: b"\x80\x04" + adapter,
}


def test_good_answers_pass_unchanged(gated, users):
    daemon = gated(lambda _, outcome: outcome)
    daemon.work()
    assert all(daemon.store.versions(user) for user in users)
    assert daemon.count("plora_gate_total", kind="adapter", code="ok") >= len(users)
    assert daemon.count("plora_gate_total", kind="statistics", code="ok") == len(users)


@pytest.mark.parametrize("code", SPOILT)
def test_a_refused_adapter_fails_its_own_run_alone(gated, users, code):
    def spoil(at: int, outcome: MemberFitted) -> MemberFitted:
        if at != 1:
            return outcome
        return replace(outcome, whole=replace(outcome.whole, adapter=SPOILT[code](outcome.whole.adapter)))

    daemon = gated(spoil)
    daemon.work()
    without = [user for user in users if not daemon.store.versions(user)]
    [run] = daemon.store.runs(state=RunState.QUEUED)
    assert ([run.user], run.error_code) == (without, f"gate_{code}")
    assert daemon.count("plora_gate_total", kind="adapter", code=code) == 1
    assert daemon.store.verify_audit().ok


def test_refused_statistics_fail_the_run(gated, users):
    daemon = gated(lambda _, outcome: replace(outcome, statistics=b"PLS1" + outcome.statistics[4:-1] + b"\0\0"))
    daemon.work()
    assert {run.error_code for run in daemon.store.runs(state=RunState.QUEUED)} == {"gate_size"}


def test_an_adapter_of_another_base_model_is_refused(gated, users):
    daemon = gated(lambda _, outcome: replace(outcome, base="cd" * 32))
    daemon.work()
    assert {run.error_code for run in daemon.store.runs(state=RunState.QUEUED)} == {"gate_wrong_base"}


def test_a_refused_basis_is_not_stored(gated, training, basis):
    daemon = gated(lambda *_: replace(basis, fingerprint="ab" * 32))
    training.people(8, 20)
    daemon.store.open_basis(training.tenant, "main", "", training.clock.now())
    daemon.scheduler.work_once(training.clock.now())
    [basis] = daemon.store.bases(training.tenant)
    assert (basis.state, basis.error_code) == (BasisState.QUEUED, "gate_wrong_fingerprint")
    assert daemon.count("plora_gate_total", kind="basis", code="wrong_fingerprint") == 1


def damage(training) -> None:
    [blob] = (training.settings.data_dir / "blobs").iterdir()
    blob.write_bytes(blob.read_bytes()[:-1])


def test_a_lost_basis_is_found_when_it_is_read_and_another_is_queued(training, basis):
    fingerprint = training.give_basis(basis)
    damage(training)
    with pytest.raises(Unreadable):
        BasisContents(training.store, now=training.clock.now).read(training.tenant, fingerprint)
    assert [each.state for each in training.store.bases(training.tenant)] == [BasisState.QUEUED, BasisState.FAILED]


def test_upkeep_finds_a_lost_basis(training, basis):
    training.give_basis(basis)
    damage(training)
    training.clock.advance(8 * 86_400)
    training.scheduler.keep_up()
    assert training.store.current_basis(training.tenant) is None


def another(made: BasisTrained) -> BasisTrained:
    """A Basis like it, but not the same."""
    basis = plora.loads_basis(made.content)
    other = plora.Basis(basis.spec, {**basis.tensors, "prior.mean": basis.prior_mean + 1})
    return replace(made, fingerprint=other.fingerprint, content=plora.dumps(other))


def test_whoever_had_an_adapter_on_a_lost_basis_is_answered_by_the_one_before(training, basis, models):
    before = another(basis)
    training.give_basis(before)
    blobs = training.settings.data_dir / "blobs"
    kept = set(blobs.iterdir())
    training.give_basis(basis)
    users = training.newcomers()
    training.work()
    user = next(each for each in users if training.store.current_version(each) is not None)
    name = training.store.external_id(user)
    [lost] = set(blobs.iterdir()) - kept
    lost.unlink()
    later = training.with_trainer(InProcessTrainer(lambda: Models(models.base), bytes(32)))
    asked = [(name, "the red shoe"), (None, "the blue shoe")]
    answers = ask(later, asked)
    assert [each.version for each in answers] == [GENERIC, GENERIC]
    assert {each.basis for each in answers} == {before.fingerprint}
    assert [each.known_user for each in ask(later, asked)] == [True, False]


def test_a_lost_adapter_is_answered_for_by_the_generic_model(training, users, models):
    training.work()
    user = next(each for each in users if training.store.current_version(each) is not None)
    name = training.store.external_id(user)
    assert ask(training, [(name, "the red shoe")])[0].version > 0
    later = training.with_trainer(InProcessTrainer(lambda: Models(models.base), bytes(32)))  # it holds nothing
    with training.store._write(training.clock.now()) as tx:
        tx.connection.exec_driver_sql("UPDATE versions SET adapter_sealed = zeroblob(500) WHERE user = ?", (user,))
    [answer] = ask(later, [(name, "the red shoe")])
    assert (answer.version, answer.known_user) == (GENERIC, True)
    assert training.store.current_version(user) is None
    assert training.store.activity(user, training.clock.now()).fresh > 0


def test_a_run_of_a_user_whose_adapter_is_lost_does_without_it(training, users):
    training.work()
    user = next(each for each in users if training.store.current_version(each) is not None)
    name = training.store.external_id(user)
    with training.store._write(training.clock.now()) as tx:
        tx.connection.exec_driver_sql("UPDATE versions SET adapter_sealed = zeroblob(500) WHERE user = ?", (user,))
    training.clock.advance(120)
    training.record(name, training.taste(0, 16, seed=9), first=100)
    training.work()
    assert training.store.current_version(user) is None
    training.clock.advance(120)
    training.work()
    assert len(training.store.versions(user)) == 2
