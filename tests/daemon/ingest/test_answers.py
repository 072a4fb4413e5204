"""What an answer means for each event, a message for its event, and a silence for the consumer."""

import json
import pickle
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import EventRefused
from daemon.ingest.answers import MOST_WAIT_S, PATIENCE, Answered, Fate, Halve, Reply, Said, Settled, Wait, decide
from daemon.ingest.brokers import BrokerAway, GroupGone, PlaceMissing
from daemon.ingest.choices import IngestChoices, WrongIngest
from daemon.ingest.delivery import Stopping
from daemon.ingest.letters import KAFKA, NATS, Letter, event_of
from daemon.ingest.process import IngestPortTaken
from daemon.ingest.pulse import AWAY, Pulse, Stalled, judge
from daemon.ingest.redis import is_behind
from daemon.settings import InvalidSetting, Settings, load

STATUSES = st.sampled_from([0, 200, 202, 207, 301, 400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 502, 503, 507])
SAID = st.builds(
    Said,
    STATUSES,
    st.sampled_from(["stored", "duplicate", "forgotten", "conflict", "rejected", ""]),
    st.sampled_from(["", "user_forgotten", "event_id_reused", "unknown_label"]),
)
REPLIES = st.builds(
    Reply, STATUSES, st.sampled_from(["", "not_json"]), st.floats(0, 1e6), st.lists(SAID, max_size=4).map(tuple)
)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EVENT = {"specversion": "1.0", "type": "plora.example.v1", "source": "/s", "id": "1", "subject": "ann"}


@given(REPLIES, st.integers(1, 4), st.integers(0, 100))
def test_an_event_is_only_settled_by_an_answer_that_is_final_for_it(reply, count, failures):
    decision = decide(reply, count, failures)
    if isinstance(decision, Halve):
        assert count > 1
        return
    assert 0 <= decision.wait_s <= MOST_WAIT_S
    if isinstance(decision, Wait):
        assert decision.wait_s > 0
        return
    assert len(decision.settled) == count
    if reply.status in {202, 207}:
        for settled, said in zip(decision.settled, reply.said, strict=True):
            if settled is None:
                assert said.status == 429 or said.status >= 500
            elif settled.fate in {Fate.STORED, Fate.DUPLICATE}:
                assert said.status < 300
            else:
                assert said.status < 500
    else:
        assert count == 1
        assert [each.fate for each in decision.settled] == [Fate.DEAD]


@pytest.mark.parametrize("status", [0, 301, 401, 403, 404, 502, 503, 507])
def test_a_daemon_that_is_away_or_refuses_the_caller_makes_no_dead_letters(status):
    for failures in range(100):
        assert isinstance(decide(Reply(status, "some_code"), 1, failures), Wait)


def test_only_the_daemon_itself_can_condemn_an_event():
    assert isinstance(decide(Reply(400), 1, 0), Wait), "no code: something else answers there"
    assert decide(Reply(400, "not_json"), 1, 0) == Answered([Settled(Fate.DEAD, "not_json")], 0.0)
    assert isinstance(decide(Reply(400, "not_json"), 2, 0), Halve)
    assert isinstance(decide(Reply(500, "internal_error"), 2, PATIENCE), Halve)


def test_nothing_is_kept_of_an_event_of_someone_who_was_forgotten():
    said = (Said(409, "conflict", "user_forgotten"), Said(409, "conflict", "event_id_reused"))
    decision = decide(Reply(207, said=said), 2, 0)
    assert decision == Answered([Settled(Fate.FORGOTTEN), Settled(Fate.DEAD, "event_id_reused")], 0.0)


def test_a_message_without_attributes_is_the_whole_event_byte_for_byte():
    body = json.dumps(EVENT, indent=3).encode()
    assert event_of(Letter(body), KAFKA) == body
    assert event_of(Letter(body, (("content-type", "application/json"),)), KAFKA) == body


def test_attributes_of_a_message_are_read_as_its_broker_writes_them():
    kafka = Letter(b'{"text": "a"}', tuple((f"ce_{name}", value) for name, value in (EVENT | {"id": "50%25"}).items()))
    nats = Letter(b'{"text": "a"}', tuple((f"ce-{name}", value) for name, value in (EVENT | {"id": "50%25"}).items()))
    assert json.loads(event_of(kafka, KAFKA)) == EVENT | {"id": "50%25", "data": {"text": "a"}}
    assert json.loads(event_of(nats, NATS)) == EVENT | {"id": "50%", "data": {"text": "a"}}


@pytest.mark.parametrize("attributes", [(), tuple((f"ce_{name}", value) for name, value in EVENT.items())])
def test_the_trace_of_a_message_goes_along_with_its_event(attributes):
    body = b"{}" if attributes else json.dumps(EVENT).encode()
    told = json.loads(event_of(Letter(body, (*attributes, ("traceparent", TRACE))), KAFKA))
    assert told["traceparent"] == TRACE
    assert "traceparent" not in json.loads(event_of(Letter(body, (*attributes, ("traceparent", "x"))), KAFKA))


@given(st.binary(max_size=200), st.lists(st.tuples(st.sampled_from(["ce_id", "ce_x", "content-type"]), st.text())))
def test_any_message_is_one_json_object_or_refused(body, headers):
    try:
        event = event_of(Letter(body, tuple(headers)), KAFKA)
    except EventRefused:
        return
    assert isinstance(json.loads(event), dict)


def test_letters_show_nothing_of_what_they_hold():
    assert "secret" not in repr(Letter(b"secret", (("ce_id", "secret"),), "t/0/1"))


def test_a_consumer_is_alive_while_a_restart_would_not_help():
    pulse = Pulse(0.0)
    assert judge(pulse.seen, 100.0, 60.0) is None, "it has not found its broker yet"
    pulse.ask(100.0, 0, consuming=True)
    assert judge(pulse.seen, 200.0, 60.0) is None, "nothing waits"
    pulse.ask(200.0, 9, consuming=True)
    assert judge(pulse.seen, 250.0, 60.0) is None, "it may yet take them"
    pulse.beat(255.0)
    pulse.ask(300.0, 9, consuming=True)
    assert judge(pulse.seen, 310.0, 60.0) is None, "it sends"
    pulse.miss()
    assert judge(pulse.seen, 400.0, 60.0) is None, "its broker is away"


def test_a_consumer_that_takes_nothing_of_what_waits_is_not_alive():
    pulse = Pulse(0.0)
    pulse.ask(1.0, 9, consuming=True)
    assert judge(pulse.seen, 62.0, 60.0) == Stalled("nothing_taken")
    pulse.ask(63.0, 0, consuming=True)
    assert judge(pulse.seen, 64.0, 60.0) is None
    pulse.ask(65.0, 0, consuming=False)
    assert judge(pulse.seen, 66.0, 60.0) == Stalled("consumer_ended")
    pulse.miss()
    assert judge(pulse.seen, 65.0 + 60.0 * AWAY + 1, 60.0) == Stalled("broker_away")


@pytest.mark.parametrize(
    ("chosen", "variable"),
    [
        ({"BROKER": "rabbit"}, "PLORA_INGEST_BROKER"),
        ({"BROKER": "nats"}, "PLORA_INGEST_ADDRESS"),
        ({"BROKER": "nats", "ADDRESS": "nats://a:1"}, "PLORA_INGEST_ADDRESS"),
        ({"BROKER": "redis", "ADDRESS": "a:1,b:1"}, "PLORA_INGEST_ADDRESS"),
        ({"BROKER": "redis", "ADDRESS": "a:x"}, "PLORA_INGEST_ADDRESS"),
        ({"BROKER": "nats", "ADDRESS": "a:1", "GROUP": "a.b"}, "PLORA_INGEST_GROUP"),
        ({"BROKER": "kafka", "ADDRESS": "a:1", "DEAD_LETTER": "plora.events"}, "PLORA_INGEST_DEAD_LETTER"),
        ({"USERNAME": "ann"}, "PLORA_INGEST_PASSWORD_FILE"),
        ({"CA_FILE": "/ca"}, "PLORA_INGEST_TLS"),
        ({"BATCH": "501"}, "PLORA_INGEST_BATCH"),
        ({"STALL_S": "0"}, "PLORA_INGEST_STALL_S"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_must_be(chosen, variable):
    with pytest.raises(InvalidSetting) as raised:
        load({f"PLORA_INGEST_{name}": value for name, value in chosen.items()})
    assert raised.value.name == variable


def test_a_stream_whose_entries_are_gone_has_nothing_waiting():
    assert is_behind(b"5-0", b"10-0")
    assert is_behind(b"5-9", b"5-10")
    assert not is_behind(b"10-0", b"10-0")
    assert not is_behind(b"10-0", b"9-3")
    assert not is_behind(b"0-0", b"")


def test_an_address_without_a_port_has_the_brokers_own():
    assert IngestChoices(broker="kafka", address="a, b:9093").addresses == ("a:9092", "b:9093")
    assert load({}) == Settings()


def test_every_setting_is_in_the_guide():
    guide = (Path(__file__).parents[3] / "docs" / "ingest.md").read_text()
    for each in fields(IngestChoices):
        name = each.name.upper()
        assert f"`PLORA_INGEST_{name}`" in guide or f", `_{name}`" in guide, name


@pytest.mark.parametrize(
    "error",
    [
        WrongIngest("address", "set"),
        BrokerAway("NATS", "a:1", "OSError"),
        PlaceMissing("stream", "a"),
        GroupGone(),
        Stopping(),
        IngestPortTaken("a", 1, "in use"),
    ],
)
def test_errors_survive_pickling(error):
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
