"""Transport keys are numbered: cohorts go on through rotations, and nothing opens under a key that was rolled."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from daemon.http_trainer import HttpTrainer
from daemon.in_process_trainer import InProcessTrainer
from daemon.predict_messages import PredictAnswer, PredictRequest, Row
from daemon.spool import Spool
from daemon.trainer_errors import TrainerLacksKey
from daemon.transport import (
    KEY_UNKNOWN,
    Body,
    Purpose,
    decode_unknown,
    encode_unknown,
    head_of,
    key_named,
    seal_request,
)
from daemon.work import answer, receive, reply, work
from storage import KeyRing, Unreadable
from storage.transport_keys import KEPT, OneKey, TransportKeys, TransportKeyUnknown
from tests.daemon.training.test_trainer_client import Front, no_adapter

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def keys(ring: KeyRing) -> TransportKeys:
    return ring.transport


@pytest.fixture
def beside(keys: TransportKeys, ring: KeyRing, tmp_path) -> TransportKeys:
    """The folder of a trainer elsewhere: what was copied to it, and nothing newer."""
    folder = tmp_path / "trainer"
    folder.mkdir()
    (folder / "transport.key").write_bytes(ring.transport_path.read_bytes())
    (folder / "transport.key").chmod(0o600)
    return TransportKeys(folder / "transport.key")


@pytest.fixture
def serve() -> Iterator[Callable[..., Front]]:
    """Trainers behind HTTP, which refuse as a replica does."""
    opened: list[Front] = []

    def start(models, keys) -> Front:
        def told(body: bytes) -> tuple[int, bytes]:
            try:
                return 200, work(models, keys, body)
            except TransportKeyUnknown as unknown:
                return KEY_UNKNOWN, encode_unknown(unknown.newest)

        opened.append(Front(told))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def ask(trainer, basis) -> PredictAnswer:
    return trainer.predict(PredictRequest(basis.fingerprint, (Row("the red shoe"),)), lambda: basis.content, no_adapter)


def test_requests_in_this_process_go_on_through_rotations_and_a_roll(keys, models, basis):
    trainer = InProcessTrainer(lambda: models, keys)
    first = ask(trainer, basis)
    for number in (2, 3):
        assert keys.rotate() == number
        assert ask(trainer, basis) == first
    keys.roll(NOW)
    assert keys.retire(NOW + KEPT) == (1, 2)
    assert ask(trainer, basis) == first


def test_requests_over_http_name_the_newest_key(keys, ring, models, basis, serve):
    seen = serve(models, TransportKeys(ring.transport_path))
    trainer = HttpTrainer(lambda: seen.url, keys)
    first = ask(trainer, basis)
    keys.rotate()
    assert ask(trainer, basis) == first
    assert key_named(seen.bodies[0]) == 1
    assert key_named(seen.bodies[-1]) == 2


def test_a_request_under_way_is_answered_under_its_own_key(keys, models):
    head = head_of(Purpose.FIT)
    number, key = keys.newest()
    received = receive(keys, seal_request(key, head, Body(b"{}")))
    keys.rotate()
    keys.roll(NOW)
    keys.retire(NOW + KEPT)
    sealed = reply(received, answer(models, received))
    assert (number, received.key) == (1, key)
    assert sealed
    with pytest.raises(TransportKeyUnknown):
        keys.of(number)


def test_an_old_frame_is_refused_after_a_roll(keys, models):
    old = seal_request(keys.newest()[1], head_of(Purpose.FIT), Body(b"{}"))
    assert work(models, keys, old)
    keys.rotate()
    assert work(models, keys, old)
    keys.roll(NOW)
    assert keys.retire(NOW + KEPT - timedelta(seconds=1)) == ()
    assert work(models, keys, old)
    assert keys.retire(NOW + KEPT) == (1,)
    with pytest.raises(TransportKeyUnknown) as refused:
        work(models, keys, old)
    assert refused.value.args == (1, 2)


def test_a_frame_that_names_another_number_does_not_open(keys, models):
    keys.rotate()
    old = seal_request(keys.of(1), head_of(Purpose.FIT), Body(b"{}"))
    with pytest.raises(Unreadable):
        work(models, keys, old.replace(b'"key":1', b'"key":2'))


def test_a_trainer_without_the_new_key_is_asked_under_its_own(keys, beside, models, basis, serve):
    seen = serve(models, beside)
    trainer = HttpTrainer(lambda: seen.url, keys)
    first = ask(trainer, basis)
    keys.rotate()
    assert ask(trainer, basis) == first
    assert [key_named(body) for body in seen.bodies[-2:]] == [2, 1]
    keys.roll(NOW)
    keys.retire(NOW + KEPT)
    with pytest.raises(TrainerLacksKey, match="number 1"):
        ask(trainer, basis)


def test_a_trainer_with_a_newer_key_serves_until_the_old_one_is_gone(keys, beside, models, basis, serve):
    beside.rotate()
    seen = serve(models, beside)
    assert ask(HttpTrainer(lambda: seen.url, keys), basis)
    assert {key_named(body) for body in seen.bodies} == {1}


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'{"newest": "1"}', b'{"newest": true}', b"\xff"])
def test_a_refusal_that_names_no_number_is_none(content):
    assert decode_unknown(content) == 0


def test_a_lone_key_is_number_one():
    assert OneKey(bytes(32)).newest() == (1, bytes(32))
    with pytest.raises(TransportKeyUnknown):
        OneKey(bytes(32)).of(2)


def test_the_spool_reads_through_a_rotation_and_loses_what_was_rolled(keys, ring, tmp_path):
    spool = Spool(tmp_path / "spool", keys)
    spool.write("7", "checkpoint", "own", b"before")
    keys.rotate()
    spool.write("7", "later", "own", b"after")
    worker = Spool(tmp_path / "spool", TransportKeys(ring.transport_path))
    assert (worker.read("7", "checkpoint", "own"), worker.read("7", "later", "own")) == (b"before", b"after")
    keys.roll(NOW)
    keys.retire(NOW + KEPT)
    assert (worker.read("7", "checkpoint", "own"), worker.read("7", "later", "own")) == (None, b"after")


def test_rotating_the_ring_makes_a_transport_key_and_rolling_removes_the_old(training, ring):
    training.store.rotate_keys(NOW)
    assert training.store.keys_status().transport == (1, 2)
    training.store.roll_epoch(NOW)
    assert training.store.keys_status().transport == (1, 2, 3)
    training.store.finish_roll(NOW + KEPT)
    assert training.store.keys_status().transport == (3,)
    assert KeyRing.open(ring.directory).transport_key() == ring.transport_key()
