"""What bad input gets: a typed problem, nothing half-written, and no word of it in the log."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

CANARY = "zanzibar-canary"
PROBLEM = "application/problem+json"
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def with_data(**data: object) -> dict[str, object]:
    return {"data": {"text": CANARY, "label": CANARY} | data}


def assert_problem(world: Any, response: Any, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    body = response.json()
    assert set(body) == {"type", "title", "status", "code", "detail"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"]
    assert CANARY not in response.text
    assert CANARY not in world.log.getvalue()


WRONG_EVENTS = {
    "unknown event type": ({"type": f"com.{CANARY}.v1", **with_data()}, 422, "unknown_event_type"),
    "missing id": ({"id": ..., **with_data()}, 400, "missing_attribute"),
    "missing source": ({"source": ..., **with_data()}, 400, "missing_attribute"),
    "missing subject": ({"subject": ..., **with_data()}, 400, "missing_attribute"),
    "missing data": ({"data": ..., "id": CANARY}, 422, "wrong_data"),
    "missing text": ({"data": {"label": CANARY}}, 422, "missing_field"),
    "missing label": ({"data": {"text": CANARY}}, 422, "missing_field"),
    "text is a number": (with_data(text=5), 422, "wrong_field"),
    "text is a list": (with_data(text=[CANARY]), 422, "wrong_field"),
    "label is null": (with_data(label=None), 422, "wrong_field"),
    "a field nobody asked for": (with_data(**{CANARY: 1}), 422, "unexpected_field"),
    "user with a slash": ({"subject": f"{CANARY}/x", **with_data()}, 400, "wrong_user"),
    "user of 10 kB": ({"subject": CANARY + "x" * 10_240, **with_data()}, 400, "wrong_attribute"),
    "user with a control": ({"subject": f"{CANARY}\n", **with_data()}, 400, "wrong_attribute"),
    "half a character": (with_data(text="\ud800" + CANARY), 422, "wrong_field"),
    "nested too deep": (with_data(text=[[[[[[[[CANARY]]]]]]]]), 400, "too_deep"),
    "text too long": (with_data(text=CANARY + "x" * 40_000), 422, "field_too_long"),
    "event too large": (with_data(text=CANARY + "x" * 70_000), 413, "event_too_large"),
}


@pytest.mark.parametrize(("changes", "status", "code"), WRONG_EVENTS.values(), ids=WRONG_EVENTS)
def test_a_wrong_event_is_refused(quiet_world, event, changes: dict[str, object], status: int, code: str):
    body = json.dumps(event(**changes)).encode()
    response = quiet_world.client.post("/v1/events", content=body, headers=quiet_world.token() | STRUCTURED)
    assert_problem(quiet_world, response, status, code)
    assert quiet_world.counts() == 1


RAW = {
    "not JSON": (STRUCTURED, b"{" + CANARY.encode(), 400, "not_json"),
    "not UTF-8": (STRUCTURED, b'{"id": "\xff"}', 400, "not_json"),
    "UTF-16": (STRUCTURED, '{"a": 1}'.encode("utf-16"), 400, "not_json"),
    "empty": (STRUCTURED, b"", 400, "not_json"),
    "NaN": (STRUCTURED, b'{"id": NaN}', 400, "not_json"),
    "a key twice": (STRUCTURED, f'{{"id": "{CANARY}", "id": "2"}}'.encode(), 400, "duplicate_key"),
    "a list": (STRUCTURED, b"[]", 400, "not_an_object"),
    "100,000 brackets": (STRUCTURED, b"[" * 60_000, 400, "too_deep"),
    "an object as a batch": (BATCH, b"{}", 400, "not_a_list"),
    "501 events": (BATCH, b"[" + b"{}," * 500 + b"{}]", 413, "batch_too_large"),
    "2 MB": (BATCH, b"[" + b" " * 2_000_000 + b"]", 413, "body_too_large"),
    "plain text": ({"Content-Type": "text/plain"}, CANARY.encode(), 415, "unsupported_media_type"),
    "plain JSON": ({"Content-Type": "application/json"}, b"{}", 415, "unsupported_media_type"),
    "no type": ({}, b"{}", 415, "unsupported_media_type"),
    "another charset": (
        {"Content-Type": "application/cloudevents+json; charset=utf-16"},
        b"",
        415,
        "unsupported_charset",
    ),
}


@pytest.mark.parametrize(("headers", "body", "status", "code"), RAW.values(), ids=RAW)
def test_a_wrong_body_is_refused(quiet_world, headers: dict[str, str], body: bytes, status: int, code: str):
    response = quiet_world.client.post("/v1/events", content=body, headers=quiet_world.token() | headers)
    assert_problem(quiet_world, response, status, code)
    assert quiet_world.counts() == 1


def test_a_body_of_unknown_length_is_read_no_further_than_the_limit(world):
    sent = []

    def chunks():
        for _ in range(400):
            sent.append(1)
            yield b" " * 1024

    response = world.client.post("/v1/events", content=chunks(), headers=world.token() | STRUCTURED)
    assert_problem(world, response, 413, "event_too_large")


def test_a_reused_id_with_other_content_is_a_conflict(world, event):
    assert world.post(event()).json()["outcome"] == "stored"
    assert world.post(event()).json()["outcome"] == "duplicate"
    assert_problem(world, world.post(event(**with_data())), 409, "event_id_reused")
    assert world.counts() == 1


def test_a_batch_answers_for_each_event(world, event):
    events = [event(1), event(2, **with_data(text=3)), event(1), event(1, **with_data()), event(3)]
    response = world.client.post("/v1/events", content=json.dumps(events), headers=world.token() | BATCH)
    assert response.status_code == 207
    outcomes = response.json()["outcomes"]
    assert [(each["status"], each.get("code")) for each in outcomes] == [
        (202, None),
        (422, "wrong_field"),
        (202, None),
        (409, "event_id_reused"),
        (202, None),
    ]
    assert [each["outcome"] for each in outcomes] == ["stored", "rejected", "duplicate", "conflict", "stored"]
    assert world.counts() == 2
    assert CANARY not in response.text + world.log.getvalue()


def test_a_forget_inside_a_batch_keeps_its_place(world, event):
    forget = event(2, type="plora.forget.v1", data=...)
    events = [event(1), forget, event(3, user="bob"), event(4)]
    response = world.client.post("/v1/events", content=json.dumps(events), headers=world.token() | BATCH)
    outcomes = [each["outcome"] for each in response.json()["outcomes"]]
    assert outcomes == ["stored", "forgotten", "stored", "conflict"]
    assert world.counts() == 1


PRIVATE = [
    ("POST", "/v1/events"),
    ("GET", "/v1/users"),
    ("GET", "/v1/users/ann"),
    ("GET", "/v1/users/ann/adapter"),
    ("POST", "/v1/users/ann/rollback"),
    ("DELETE", "/v1/users/ann"),
    ("POST", "/v1/predict"),
    ("GET", "/v1/bases"),
    ("POST", "/v1/bases"),
    ("GET", "/v1/bases/abcd"),
    ("GET", "/v1/runs"),
    ("POST", "/v1/keys/rotate"),
    ("GET", "/v1/audit/verify"),
]
BODIES = {
    "/v1/predict": {"inputs": [{"user": "ann", "text": CANARY}]},
    "/v1/users/ann/rollback": {"to": None},
    "/v1/bases": {},
}


@pytest.mark.parametrize(("method", "path"), PRIVATE)
@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "no_token"),
        ({"Authorization": f"Bearer {CANARY}"}, "wrong_token"),
        ({"Authorization": "Bearer " + "x" * 10_000}, "wrong_token"),
        ({"Authorization": f"Basic {CANARY}"}, "no_token"),
    ],
    ids=["none", "wrong", "long", "basic"],
)
def test_without_a_known_token_nothing_is_told(quiet_world, method: str, path: str, header: dict[str, str], code: str):
    response = quiet_world.client.request(method, path, json=BODIES.get(path), headers=header)
    assert_problem(quiet_world, response, 401, code)
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_without_the_scope_nothing_is_done(quiet_world, method: str, path: str):
    scopes = {"/v1/events": "adapters:read"}.get(path, "events:write")
    response = quiet_world.client.request(method, path, json=BODIES.get(path), headers=quiet_world.caller(scopes))
    assert_problem(quiet_world, response, 403, "scope_missing")
    assert quiet_world.counts() == 1


def test_to_forget_by_event_needs_the_scope_to_forget(world, event):
    world.post(event())
    forget = event(2, type="plora.forget.v1", data=...)
    response = world.client.post("/v1/events", json=forget, headers=world.caller("events:write") | STRUCTURED)
    assert_problem(world, response, 403, "scope_missing")
    assert world.counts() == 1


WRONG_REQUESTS = {
    "no such page": ("GET", f"/v1/{CANARY}", None, 404, "not_found"),
    "no such method": ("PUT", "/v1/events", None, 405, "method_not_allowed"),
    "an unknown user": ("GET", f"/v1/users/{CANARY}", None, 404, "unknown_user"),
    "a user with a slash": ("GET", f"/v1/users/{CANARY}%2Fx", None, 404, "not_found"),
    "a user of 10 kB": ("GET", "/v1/users/" + "x" * 10_240, None, 400, "wrong_user"),
    "a user with a control": ("DELETE", "/v1/users/a%00b", None, 400, "wrong_user"),
    "a trailing slash": ("GET", "/v1/bases/", None, 404, "not_found"),
    "an unknown user to roll back": ("POST", f"/v1/users/{CANARY}/rollback", {"to": 1}, 404, "unknown_user"),
    "an unknown version": ("POST", "/v1/users/ann/rollback", {"to": 9}, 404, "unknown_version"),
    "a version that is text": ("POST", "/v1/users/ann/rollback", {"to": CANARY}, 422, "wrong_request"),
    "a field nobody asked for": ("POST", "/v1/users/ann/rollback", {CANARY: 1}, 422, "wrong_request"),
    "an unknown user to forget": ("DELETE", f"/v1/users/{CANARY}", None, 404, "unknown_user"),
    "no adapter": ("GET", "/v1/users/ann/adapter", None, 404, "no_adapter"),
    "an unknown basis": ("GET", "/v1/bases/abcd", None, 404, "unknown_basis"),
    "a basis that is no fingerprint": ("GET", f"/v1/bases/{CANARY}", None, 422, "wrong_request"),
    "no inputs": ("POST", "/v1/predict", {"inputs": []}, 422, "wrong_request"),
    "a text that is a number": ("POST", "/v1/predict", {"inputs": [{"user": "a", "text": 5}]}, 422, "wrong_request"),
    "a predicted user with a slash": (
        "POST",
        "/v1/predict",
        {"inputs": [{"user": "a/b", "text": ""}]},
        400,
        "wrong_user",
    ),
    "too many inputs": (
        "POST",
        "/v1/predict",
        {"inputs": [{"user": "ann", "text": CANARY}] * 257},
        413,
        "too_many_inputs",
    ),
    "no basis to predict with": ("POST", "/v1/predict", {"inputs": [{"user": "ann", "text": CANARY}]}, 409, "no_basis"),
}


@pytest.mark.parametrize("wrong", WRONG_REQUESTS.values(), ids=WRONG_REQUESTS)
def test_a_wrong_request_is_refused(quiet_world, wrong: tuple[str, str, object, int, str]):
    method, path, body, status, code = wrong
    response = quiet_world.client.request(method, path, json=body, headers=quiet_world.token(), follow_redirects=False)
    assert_problem(quiet_world, response, status, code)
    assert quiet_world.counts() == 1


def test_a_body_that_is_not_json_is_refused_everywhere(quiet_world):
    headers = quiet_world.token() | {"Content-Type": "application/json"}
    response = quiet_world.client.post("/v1/predict", content=b"{" + CANARY.encode(), headers=headers)
    assert_problem(quiet_world, response, 400, "not_json")


def test_another_tenant_sees_nothing(world, event):
    world.post(event())
    store = world.service.parts.store
    other = store.ensure_tenant("other", world.service.parts.now()).id
    foreign = world.caller("events:write", "adapters:read", "users:admin", "operator", tenant=other)
    for method, path in [("GET", ""), ("GET", "/adapter"), ("POST", "/rollback"), ("DELETE", "")]:
        response = world.client.request(method, f"/v1/users/ann{path}", json={}, headers=foreign)
        assert_problem(world, response, 404, "unknown_user")
    assert world.client.get("/v1/users", headers=foreign).json() == {"users": []}
    assert world.counts() == 1


def test_a_full_disk_is_507_and_nothing_is_written(world, event):
    world.post(event())
    database = world.service.parts.store._database
    with database.write(world.service.parts.now()) as writing:
        pages = writing.connection.exec_driver_sql("PRAGMA page_count").scalar()
        writing.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    refused = [world.post(event(number, data={"text": "x" * 30_000, "label": "good"})) for number in range(2, 8)]
    assert_problem(world, refused[-1], 507, "storage_full")
    assert int(refused[-1].headers["retry-after"]) > 0
    assert world.counts() == 1 + sum(each.status_code == 202 for each in refused)
    assert world.client.get("/v1/users/ann", headers=world.token()).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=JSON | st.dictionaries(st.sampled_from(["specversion", "id", "source", "type", "subject", "data"]), JSON),
    headers=st.sampled_from([STRUCTURED, BATCH, {"Content-Type": "application/json", "ce-specversion": "1.0"}]),
)
def test_no_json_is_a_server_error(world, value: object, headers: dict[str, str]):
    response = world.client.post("/v1/events", content=json.dumps(value), headers=world.token() | headers)
    assert response.status_code < 500


@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=JSON, path=st.sampled_from(["/v1/predict", "/v1/users/ann/rollback", "/v1/bases"]))
def test_no_body_is_a_server_error(world, body: object, path: str):
    response = world.client.post(
        path,
        content=json.dumps(body),
        headers=world.caller("operator", "predict") | {"Content-Type": "application/json"},
    )
    assert response.status_code < 500


def test_an_error_of_ours_is_500_without_a_word_of_the_request(world, event: Callable[..., dict[str, object]]):
    world.give_basis(CANARY.encode(), "abcd")  # a basis that no library can read
    response = world.post(event(**with_data()))
    assert_problem(world, response, 500, "internal_error")
    assert '"action": "request"' in world.log.getvalue()
    assert world.counts() == 0
