"""Events from real brokers reach the real daemon: once each, whatever dies or is away between."""

import json
import os
import signal

import pytest

from tests.daemon.ingest.brokers import DEAD, Broker, structured
from tests.daemon.ingest.world import figure, says

ALL = ("redis", "nats", "kafka")
OWN = ("redis", "nats")  # servers that a test can kill
LONG = {name: pytest.param(name, marks=pytest.mark.long) for name in ALL}
MOST = (*OWN, LONG["kafka"])  # whose groups take seconds to miss a member
CANARY = "a canary text 7c1f"


def example(number: int, **changes: object) -> dict[str, object]:
    event = {
        "specversion": "1.0",
        "type": "plora.example.v1",
        "source": "/shop",
        "id": f"order-{number}",
        "subject": f"user-{number % 7}",
        "data": {"text": f"text {number}", "label": "good"},
    }
    return {name: value for name, value in (event | changes).items() if value is not ...}


def content(number: int) -> str:
    return json.dumps({"label": "good", "text": f"text {number}"}, separators=(",", ":"))


def carry(broker: Broker, numbers: range) -> None:
    broker.carry([structured(example(number)) for number in numbers])


def messages(kind: str, outcome: str) -> str:
    return f'plora_ingest_messages_total{{broker="{kind}",outcome="{outcome}"}}'


@pytest.mark.parametrize("kind", ALL)
def test_events_of_a_broker_are_stored_once_and_acknowledged(world, kind):
    made = world(kind)
    binary = {f"ce-{name}": str(value) for name, value in example(40).items() if name != "data"}
    carry(made.broker, range(40))
    made.broker.carry([(json.dumps(example(40)["data"]).encode(), binary | {"content-type": "application/json"})])
    carry(made.broker, range(0, 40, 2))
    _, port = made.start()
    assert made.settled(41), made.log.read_text()
    assert made.daemon.stored() == {content(number): 1 for number in range(41)}
    assert says(port, "/readyz", 200)
    assert says(port, "/livez", 200)
    assert figure(port, messages(kind, "stored")) == 41
    assert figure(port, messages(kind, "duplicate")) == 20
    assert figure(port, "plora_ingest_connected") == 1


@pytest.mark.parametrize("kind", MOST)
def test_what_no_retry_would_help_is_put_aside_and_holds_nobody_up(world, kind):
    made = world(kind)
    poison = {
        "not_json": (CANARY.encode(), {}),
        "not_an_object": (f'["{CANARY}"]'.encode(), {}),
        "duplicate_key": (b'{"specversion": "1.0", "specversion": "1.0"}', {}),
        "missing_attribute": structured(example(100, id=...)),
        "unknown_event_type": structured(example(101, type="com.other.v1")),
        "event_too_large": structured(example(102, data={"text": "x" * 70_000, "label": "good"})),
        "wrong_attribute": structured(example(103, id=f"{CANARY}\u0007")),
        "event_id_reused": structured(example(0, data={"text": CANARY, "label": "bad"})),
        "unexpected_field": structured(example(104, data={"text": "a", "label": "b", "note": CANARY})),
    }
    carry(made.broker, range(3))
    for at, each in enumerate(poison.values()):
        made.broker.carry([each, structured(example(10 + at))])
    _, port = made.start()
    assert made.settled(3 + len(poison)), made.log.read_text()
    assert made.daemon.stored() == {content(number): 1 for number in [0, 1, 2, *range(10, 10 + len(poison))]}
    assert sorted(code for _, code in made.broker.dead()) == sorted(poison)
    assert {body for body, _ in made.broker.dead()} == {body for body, _ in poison.values()}
    assert figure(port, messages(kind, "dead_letter")) == len(poison)
    assert CANARY not in made.log.read_text()


@pytest.mark.parametrize("kind", MOST)
def test_a_consumer_that_dies_between_answer_and_acknowledgement_doubles_nothing(world, kind):
    made = world(kind)
    carry(made.broker, range(30))
    child, _ = made.start(points={"consumer-before-acknowledging": ("kill", 1)}, BATCH=10)
    assert child.wait(20)
    assert 0 < made.daemon.count() < 30
    _, port = made.start("two", BATCH=10)
    assert made.settled(30), made.log.read_text()
    assert made.daemon.stored() == {content(number): 1 for number in range(30)}
    assert figure(port, messages(kind, "duplicate")) > 0


@pytest.mark.parametrize("kind", ["redis", LONG["nats"], LONG["kafka"]])
def test_a_daemon_that_is_away_or_asks_for_patience_slows_a_consumer_down_and_loses_nothing(world, kind):
    made = world(kind)
    made.daemon.stop()
    child, port = made.start(STALL_S=1)
    carry(made.broker, range(20))
    assert says(port, "/readyz", 503, "daemon_away")
    assert not child.wait(1.5)
    assert says(port, "/livez", 200, limit_s=0), "a new process would not help"
    assert made.broker.left() == 20
    made.daemon.start()
    assert made.settled(20), made.log.read_text()
    assert says(port, "/readyz", 200)
    assert made.broker.dead() == []


def test_too_many_events_of_one_user_wait_until_they_are_let_in(world):
    from daemon.limits import Rates  # noqa: PLC0415

    made = world("redis", rate=Rates(user_per_s=10, user_burst=10))
    made.broker.carry([structured(example(number, subject="ann")) for number in range(15)])
    _, port = made.start()
    assert made.settled(15), made.log.read_text()
    assert figure(port, messages("redis", "stored")) == 15
    assert made.broker.dead() == []


@pytest.mark.parametrize("kind", [LONG["redis"], LONG["nats"]])
def test_a_broker_that_dies_and_comes_back_is_consumed_again(world, kind):
    made = world(kind)
    _, port = made.start()
    carry(made.broker, range(5))
    assert made.settled(5), made.log.read_text()
    made.broker.server.kill()
    assert says(port, "/readyz", 503, "broker_away")
    made.broker.server.start()
    carry(made.broker, range(5, 10))
    assert made.settled(10), made.log.read_text()
    assert says(port, "/readyz", 200)
    assert says(port, "/livez", 200)


@pytest.mark.parametrize("kind", ["redis", LONG["nats"]])
def test_a_consumer_whose_group_is_gone_is_not_alive_and_its_successor_goes_on(world, kind):
    made = world(kind)
    child, port = made.start()
    carry(made.broker, range(5))
    assert made.settled(5), made.log.read_text()
    made.broker.lose_group()
    assert says(port, "/livez", 503, "consumer_ended"), made.log.read_text()
    carry(made.broker, range(5, 10))
    child.signal(signal.SIGTERM)
    assert child.wait(20)
    made.start()
    assert made.settled(10), made.log.read_text()
    assert made.daemon.stored() == {content(number): 1 for number in range(10)}


def test_a_consumer_that_is_given_nothing_of_what_waits_is_not_alive(world):
    made = world("nats")
    carry(made.broker, range(5))
    made.broker.starve()
    _, port = made.start(STALL_S=1)
    assert says(port, "/readyz", 200)
    assert says(port, "/livez", 503, "nothing_taken"), made.log.read_text()
    assert figure(port, "plora_ingest_pending_messages") == 5


@pytest.mark.long
def test_a_message_is_not_acknowledged_before_its_dead_letter_is_kept(world):
    made = world("redis")
    made.broker.client.set(DEAD, "no stream")
    made.broker.carry([(b"poison", {}), structured(example(0))])
    _, port = made.start()
    assert says(port, "/readyz", 503, "batch_fails"), made.log.read_text()
    assert made.broker.left() == 2
    made.broker.client.delete(DEAD)
    assert made.settled(1), made.log.read_text()
    assert [code for _, code in made.broker.dead()] == ["not_json"]
    assert says(port, "/readyz", 200)


def test_a_consumer_that_may_not_waits_for_a_token_that_may(world):
    made = world("nats")
    token = made.folder / "token"
    secret = made.daemon.service.keyring.ensure_token("host")
    token.write_text("plr_wrong")
    os.chmod(token, 0o600)
    carry(made.broker, range(5))
    _, port = made.start(TOKEN_FILE=token)
    assert says(port, "/readyz", 503, "not_allowed")
    token.write_text(secret)
    assert made.settled(5), made.log.read_text()
    assert made.broker.dead() == []
    assert secret not in made.log.read_text()


@pytest.mark.parametrize("kind", ["nats", LONG["redis"], LONG["kafka"]])
def test_a_consumer_told_to_end_gives_back_what_the_daemon_did_not_take(world, kind):
    made = world(kind)
    made.daemon.stop()
    child, port = made.start(REDELIVER_S=5)
    carry(made.broker, range(5))
    assert says(port, "/readyz", 503, "daemon_away")
    child.signal(signal.SIGTERM)
    assert child.wait(8)
    made.daemon.start()
    made.start("two", REDELIVER_S=1)
    assert made.settled(5), made.log.read_text()
    assert made.daemon.stored() == {content(number): 1 for number in range(5)}
