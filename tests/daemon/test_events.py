"""Reading CloudEvents, and what they teach."""

import base64
import json
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.cloudevents import JSON_DEPTH, read_json
from daemon.errors import EventRefused, EventTooLarge, MalformedEvent, UnacceptableEvent, UnsupportedMediaType
from daemon.events import (
    BATCH,
    STRUCTURED,
    TEXT_BYTES,
    Bounds,
    EventType,
    Message,
    check_label,
    check_user,
    examples_of,
    read,
)
from storage import Event, EventKind

BOUNDS = Bounds()
AT = datetime(2031, 1, 1, tzinfo=UTC)
PLAIN = {
    "specversion": "1.0",
    "type": "plora.example.v1",
    "source": "/shop",
    "id": "1",
    "subject": "ann",
    "data": {"text": "warm cake", "label": "good"},
}
CANARY = "zanzibar-canary"


def structured(value: object) -> list[Message | EventRefused]:
    return read([("content-type", STRUCTURED)], json.dumps(value).encode(), BOUNDS)


def binary(headers: dict[str, str], body: bytes = b'{"text":"warm cake","label":"good"}') -> Message:
    (message,) = read([("Content-Type", "application/json"), *headers.items()], body, BOUNDS)
    assert isinstance(message, Message)
    return message


def ce_headers(**changes: str) -> dict[str, str]:
    names = {"specversion": "1.0", "type": "plora.example.v1", "source": "/shop", "id": "1", "subject": "ann"} | changes
    return {f"ce-{name}": value for name, value in names.items()}


def test_the_same_event_in_every_mode_is_the_same_message():
    (one,) = structured(PLAIN)
    (of_batch,) = read([("content-type", f"{BATCH}; charset=utf-8")], json.dumps([PLAIN]).encode(), BOUNDS)
    encoded = base64.b64encode(json.dumps(PLAIN["data"]).encode()).decode()
    without = {name: value for name, value in PLAIN.items() if name != "data"}
    (of_base64,) = structured(without | {"data_base64": encoded, "datacontenttype": "application/json"})
    assert one == of_batch == of_base64 == binary(ce_headers())


def test_a_header_is_unquoted_and_percent_decoded_once():
    message = binary(ce_headers(subject='"Eur%C3%B4pa%2520 \\"x\\""', source="/a%20b"))
    assert message.user == 'Eurôpa%20 "x"'
    assert message.source == "/a b"


@pytest.mark.parametrize("value", ["Zoë", "%ff%fe", "%C3"])
def test_a_header_that_is_not_percent_encoded_utf8_is_refused(value: str):
    with pytest.raises(MalformedEvent):
        binary(ce_headers(subject=value))


def test_content_is_canonical_and_kept_out_of_reprs():
    (message,) = structured(PLAIN | {"subject": CANARY, "data": {"label": CANARY, "text": CANARY}})
    assert message.content == f'{{"label":"{CANARY}","text":"{CANARY}"}}'.encode()
    assert CANARY not in repr(message)
    assert CANARY not in repr(message.to_event())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"specversion": "0.3"}, "wrong_specversion"),
        ({"specversion": None}, "wrong_specversion"),
        ({"id": None}, "missing_attribute"),
        ({"id": ""}, "missing_attribute"),
        ({"id": 7}, "wrong_attribute"),
        ({"id": "x" * 257}, "wrong_attribute"),
        ({"id": "a\nb"}, "wrong_attribute"),
        ({"source": None}, "missing_attribute"),
        ({"source": "/" * 1025}, "wrong_attribute"),
        ({"type": None}, "missing_attribute"),
        ({"type": "plora.example.v2"}, "unknown_event_type"),
        ({"type": "com.example.other"}, "unknown_event_type"),
        ({"subject": None}, "missing_attribute"),
        ({"subject": ["ann"]}, "wrong_attribute"),
        ({"subject": "a/b"}, "wrong_user"),
        ({"subject": "a" * 257}, "wrong_user"),
        ({"subject": "a" * 10_240}, "wrong_attribute"),
        ({"subject": "a\x00b"}, "wrong_attribute"),
        ({"subject": "\ud800"}, "wrong_attribute"),
        ({"time": "yesterday"}, "wrong_time"),
        ({"time": "2024-01-01T00:00:00"}, "wrong_time"),
        ({"time": "0001-01-01T00:00:00+23:59"}, "wrong_time"),
        ({"time": 5}, "wrong_time"),
        ({"datacontenttype": "text/plain"}, "wrong_datacontenttype"),
        ({"Bad_Name": "x"}, "wrong_attribute_name"),
        ({"extension": {"a": 1}}, "wrong_attribute"),
        ({f"x{n}": "1" for n in range(40)}, "too_many_attributes"),
        ({"data": None}, "wrong_data"),
        ({"data": "text"}, "wrong_data"),
        ({"data": []}, "wrong_data"),
        ({"data": {"label": "good"}}, "missing_field"),
        ({"data": {"text": "x"}}, "missing_field"),
        ({"data": {"text": 5, "label": "good"}}, "wrong_field"),
        ({"data": {"text": None, "label": "good"}}, "wrong_field"),
        ({"data": {"text": ["x"], "label": "good"}}, "wrong_field"),
        ({"data": {"text": "x", "label": 3}}, "wrong_field"),
        ({"data": {"text": "x", "label": ""}}, "wrong_field"),
        ({"data": {"text": "\udfff", "label": "good"}}, "wrong_field"),
        ({"data": {"text": "x" * (TEXT_BYTES + 1), "label": "good"}}, "field_too_long"),
        ({"data": {"text": "x", "label": "good", "more": CANARY}}, "unexpected_field"),
        ({"data_base64": "e30="}, "wrong_data"),
        ({"type": "plora.consent.v1", "data": {"granted": "yes"}}, "wrong_field"),
        ({"type": "plora.consent.v1", "data": {"granted": 1}}, "wrong_field"),
        ({"type": "plora.forget.v1", "data": {"text": "x"}}, "unexpected_field"),
    ],
)
def test_a_wrong_event_is_refused_with_its_code(changes: dict[str, object], code: str):
    value = {name: each for name, each in (PLAIN | changes).items() if each is not None or name == "data"}
    with pytest.raises(EventRefused) as caught:
        structured(value)
    assert caught.value.code == code
    assert CANARY not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args  # noqa: S301


@pytest.mark.parametrize("text", ["", " ", "\n", "とても良い", "a\x00b", "🫖" * 100])
def test_any_text_is_an_example(text: str):
    (message,) = structured(PLAIN | {"data": {"text": text, "label": "good"}})
    assert isinstance(message, Message)
    assert json.loads(message.content)["text"] == text


def test_every_type_is_read():
    (consent,) = structured(PLAIN | {"type": "plora.consent.v1", "data": {"granted": False}})
    assert (consent.type, consent.granted, consent.label) == (EventType.CONSENT, False, None)
    without = {name: value for name, value in PLAIN.items() if name != "data"}
    (forget,) = structured(without | {"type": "plora.forget.v1"})
    assert (forget.type, forget.content) == (EventType.FORGET, b"")
    assert binary(ce_headers(type="plora.forget.v1"), b"").type is EventType.FORGET


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"NaN",
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b"1" * 5_000,
        b'"\x00"',
        b"{}{}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_is_refused(body: bytes):
    with pytest.raises(MalformedEvent):
        read_json(body)


def test_json_may_nest_to_the_limit_and_brackets_in_strings_do_not_count():
    assert read_json(b"[" * JSON_DEPTH + b"]" * JSON_DEPTH) == [[[[[[[[]]]]]]]]
    assert read_json(b'"[[[[[[[[[[[[\\"[[[["') == '[[[[[[[[[[[["[[[['
    with pytest.raises(MalformedEvent) as caught:
        read_json(b"[" * (JSON_DEPTH + 1) + b"]" * (JSON_DEPTH + 1))
    assert caught.value.code == "too_deep"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("content-type", "application/json")],
        [("content-type", "text/plain"), ("ce-specversion", "1.0")],
        [("content-type", "application/cloudevents+avro"), ("ce-specversion", "1.0")],
        [("content-type", f"{STRUCTURED}; charset=latin-1")],
    ],
)
def test_another_media_type_is_refused(headers: list[tuple[str, str]]):
    with pytest.raises(UnsupportedMediaType):
        read(headers, b"{}", BOUNDS)


def test_in_binary_mode_the_media_type_may_be_left_out():
    (message,) = read(list(ce_headers().items()), json.dumps(PLAIN["data"]).encode(), BOUNDS)
    assert message == binary(ce_headers())


def test_a_header_sent_twice_is_refused():
    with pytest.raises(MalformedEvent) as caught:
        read([("ce-id", "1"), ("CE-ID", "2"), ("content-type", "application/json")], b"{}", BOUNDS)
    assert caught.value.code == "duplicate_attribute"


def test_in_a_batch_each_event_stands_alone():
    values = [PLAIN, PLAIN | {"type": "no"}, 5, PLAIN | {"data": {"text": "x" * 70_000, "label": "good"}}]
    found = read([("content-type", BATCH)], json.dumps(values).encode(), BOUNDS)
    kinds = [type(each) for each in found]
    assert kinds == [Message, UnacceptableEvent, MalformedEvent, EventTooLarge]


def test_a_batch_has_its_bounds():
    assert read([("content-type", BATCH)], b"[]", BOUNDS) == []
    with pytest.raises(EventTooLarge):
        read([("content-type", BATCH)], b"[" + b"{}," * 500 + b"{}]", BOUNDS)
    with pytest.raises(MalformedEvent):
        read([("content-type", BATCH)], b"{}", BOUNDS)


def test_a_label_is_checked_only_where_the_set_is_closed():
    (message,) = structured(PLAIN | {"data": {"text": "x", "label": CANARY}})
    check_label(message, None)
    check_label(message, frozenset({CANARY}))
    with pytest.raises(UnacceptableEvent, match="none of the 2") as caught:
        check_label(message, frozenset({"good", "bad"}))
    assert CANARY not in str(caught.value)


@given(st.text(max_size=300))
def test_a_user_id_is_kept_as_it_is_or_refused(user: str):
    try:
        assert check_user(user) == user
    except MalformedEvent:
        ordinary = all(ord(each) >= 0x20 and not 0x7F <= ord(each) <= 0x9F for each in user)
        assert not (1 <= len(user) <= 256 and "/" not in user and ordinary) or any(
            "\ud800" <= c <= "\udfff" for c in user
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
EVENTLIKE = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.just("1.0") | JSON,
        "type": st.sampled_from([each.value for each in EventType]) | JSON,
        "source": st.just("/s") | JSON,
        "id": st.just("1") | JSON,
        "subject": st.just("ann") | JSON,
        "time": st.just("2024-01-01T00:00:00Z") | JSON,
        "data": st.fixed_dictionaries({}, optional={"text": JSON, "label": JSON, "granted": JSON}) | JSON,
    },
)


def accepted(headers: list[tuple[str, str]], body: bytes) -> bool:
    """Whether all of it is read. Anything but a refusal that the sender is to blame for is an error."""
    try:
        return all(isinstance(each, Message) for each in read(headers, body, BOUNDS))
    except EventRefused as refused:
        if not 400 <= refused.status < 500:
            raise
        return False


@given(JSON | EVENTLIKE | st.lists(EVENTLIKE, max_size=3), st.sampled_from([STRUCTURED, BATCH]))
def test_any_json_is_read_or_refused(value: object, content_type: str):
    assert accepted([("content-type", content_type)], json.dumps(value).encode()) in (True, False)


@given(st.binary(max_size=200), st.sampled_from([STRUCTURED, BATCH, "application/json", ""]))
def test_any_bytes_are_read_or_refused(body: bytes, content_type: str):
    assert accepted([("content-type", content_type), *ce_headers().items()], body) in (True, False)


def stored(seq: int, kind: EventKind, text: str, label: str) -> Event:
    return Event(seq, "u", kind, None, AT, json.dumps({"text": text, "label": label}).encode())


def test_a_correction_replaces_every_earlier_example_of_its_text():
    found = examples_of(
        [
            stored(1, EventKind.EXAMPLE, "tea", "good"),
            stored(2, EventKind.EXAMPLE, "cake", "good"),
            stored(3, EventKind.EXAMPLE, "tea", "fine"),
            stored(5, EventKind.CORRECTION, "tea", "bad"),
            Event(6, "u", EventKind.CONSENT, None, AT, b'{"granted":true}'),
            stored(4, EventKind.CORRECTION, "tea", "worse"),
            stored(7, EventKind.CORRECTION, "never seen", "good"),
        ]
    )
    assert [(each.seq, each.text, each.label) for each in found] == [
        (2, "cake", "good"),
        (5, "tea", "bad"),
        (7, "never seen", "good"),
    ]
    assert "tea" not in repr(found)


@given(
    st.lists(st.tuples(st.sampled_from([EventKind.EXAMPLE, EventKind.CORRECTION]), st.sampled_from("abc"), st.text()))
)
def test_after_a_correction_its_text_has_one_target_until_a_new_example(steps: list[tuple[EventKind, str, str]]):
    events = [stored(seq, *step) for seq, step in enumerate(steps)]
    found = examples_of(events)
    assert [each.seq for each in found] == sorted({each.seq for each in found})
    for text in "abc":
        told = [event for event in events if json.loads(event.content)["text"] == text]
        corrections = [event.seq for event in told if event.kind is EventKind.CORRECTION]
        since = max(corrections, default=-1)
        assert [each.seq for each in found if each.text == text] == [each.seq for each in told if each.seq >= since]
