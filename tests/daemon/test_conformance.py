"""CloudEvents 1.0 as others send it: the official SDK writes, the daemon reads."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

ATTRIBUTES = {"specversion": "1.0", "type": "plora.example.v1", "source": "/shop", "id": "1", "subject": "ann"}
DATA = {"text": "warm cake", "label": "good"}


def to_batch(event: CloudEvent, form: JSONFormat) -> HTTPMessage:
    return HTTPMessage({"content-type": "application/cloudevents-batch+json"}, b"[" + form.write(event) + b"]")


MODES: dict[str, Callable[[CloudEvent, JSONFormat], HTTPMessage]] = {
    "binary": to_binary,
    "structured": to_structured,
    "batch": to_batch,
}
SENT = {
    "plain": {},
    "with its data type": {"datacontenttype": "application/json"},
    "with a charset": {"datacontenttype": "application/json; charset=utf-8"},
    "with extensions": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "sequence": "7"},
    "user beyond ASCII": {"subject": 'Zoë ☕ 100% "x"'},
    "source with spaces": {"source": "/a shop/ü"},
    "a label of other scripts": {"dataschema": "https://example.com/schema"},
}


def send(world: Any, message: HTTPMessage) -> Any:
    return world.client.post("/v1/events", content=message.body, headers=world.token() | message.headers)


def outcome_of(response: Any) -> str:
    answer = response.json()
    return answer["outcomes"][0]["outcome"] if "outcomes" in answer else answer["outcome"]


@pytest.mark.parametrize("attributes", SENT.values(), ids=SENT)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_stores_the_event_and_every_other_mode_then_finds_a_duplicate(world, mode, attributes):
    def message(mode: str) -> HTTPMessage:
        return MODES[mode](CloudEvent(ATTRIBUTES | attributes, DATA), JSONFormat())

    first = send(world, message(mode))
    assert (first.status_code, outcome_of(first)) == (202, "stored")
    for other in MODES:
        again = send(world, message(other))
        assert (again.status_code, outcome_of(again)) == (202, "duplicate")
    user = world.internal_id((ATTRIBUTES | attributes)["subject"])
    (event,) = world.service.parts.store.events(user)
    assert json.loads(event.content) == DATA


def test_a_time_is_kept_with_its_offset(world, event):
    world.post(event(time="2024-05-06T07:08:09.123+02:00"))
    (stored,) = world.service.parts.store.events(world.internal_id("ann"))
    assert stored.time.isoformat() == "2024-05-06T05:08:09.123000+00:00"


def test_64_kib_are_accepted(world, event):
    padded = event(1, data={"text": "ü" * 16_000, "label": "x" * 30_000})
    body = json.dumps(padded, ensure_ascii=False).encode()
    body += b" " * (65_536 - len(body))
    headers = world.token() | {"Content-Type": "application/cloudevents+json"}
    assert world.client.post("/v1/events", content=body, headers=headers).status_code == 202
    assert world.client.post("/v1/events", content=body + b" ", headers=headers).status_code == 413


def test_a_batch_of_500_is_accepted_at_once(world, event):
    events = [event(number) for number in range(500)]
    headers = world.token() | {"Content-Type": "application/cloudevents-batch+json"}
    response = world.client.post("/v1/events", content=json.dumps(events), headers=headers)
    assert response.status_code == 202
    assert {each["outcome"] for each in response.json()["outcomes"]} == {"stored"}
    assert world.counts() == 500
    assert world.client.post("/v1/events", content=b"[]", headers=headers).json() == {"outcomes": []}


def test_the_handshake_allows_the_origin_that_asks(world):
    response = world.client.options("/v1/events", headers={"WebHook-Request-Origin": "hosts.example.com"})
    assert response.status_code == 200
    assert response.headers["webhook-allowed-origin"] == "hosts.example.com"
    assert response.headers["webhook-allowed-rate"] == "*"
    assert "POST" in response.headers["allow"]
    plain = world.client.options("/v1/events")
    assert "webhook-allowed-origin" not in plain.headers


def test_consent_and_correction_are_recorded(world, event):
    world.post(event(1))
    world.post(event(2, type="plora.consent.v1", data={"granted": False}))
    assert not world.client.get("/v1/users/ann", headers=world.token()).json()["consented"]
    world.post(event(3, type="plora.consent.v1", data={"granted": True}))
    assert world.client.get("/v1/users/ann", headers=world.token()).json()["consented"]
    assert world.post(event(4, type="plora.correction.v1")).json()["outcome"] == "stored"


def test_forget_by_event_leaves_nothing_and_consent_lets_them_in_again(world, event):
    world.post(event(1))
    forget = event(2, type="plora.forget.v1", data=...)
    assert world.post(forget).json()["outcome"] == "forgotten"
    assert world.counts() == 0
    assert world.client.get("/v1/users/ann", headers=world.token()).status_code == 404
    assert world.post(forget).json()["outcome"] == "forgotten"
    assert world.post(event(3)).json()["code"] == "user_forgotten"
