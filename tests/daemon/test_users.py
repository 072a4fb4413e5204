"""Users over HTTP: state, adapters, roll back, forget; bases and keys."""

import json

import pytest

BASIS = "ba515"


@pytest.fixture
def ann(world, event):
    """A user with two versions: 1 retired, 2 current, and a rejected third."""
    world.give_basis(b"PLB1 not really a basis", BASIS)
    store = world.service.parts.store
    assert world.post(event(1, type="plora.consent.v1", data={"granted": True})).status_code == 202
    first = world.give_adapter("ann", b"adapter one", BASIS)
    second = world.give_adapter("ann", b"adapter two", BASIS)
    world.give_adapter("ann", b"adapter three", BASIS, promoted=False)
    assert store.current_version(world.internal_id("ann")).version == second.version
    return [first, second]


def test_a_user_shows_every_version_and_run_with_its_reason(world, ann):
    shown = world.client.get("/v1/users/ann", headers=world.token()).json()
    assert shown["state"] == "active"
    assert shown["serving"] == 2
    assert (shown["counts"]["examples"], shown["counts"]["last_event_at"]) == (0, None)
    assert [each["state"] for each in shown["versions"]] == ["retired", "current", "rejected"]
    assert shown["versions"][2]["code"] == "not_better_than_generic"
    assert shown["versions"][1]["scores"] == {"gain": 0.5}
    assert [each["state"] for each in shown["runs"]] == ["succeeded"] * 3
    assert shown["runs"][0]["reason"] == "a test"
    assert "ann" not in str(shown)


def test_the_adapter_comes_once_and_is_then_not_modified(world, ann):
    response = world.client.get("/v1/users/ann/adapter", headers=world.token())
    assert response.content == b"adapter two"
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["plora-version"] == "2"
    assert response.headers["plora-basis"] == BASIS
    assert response.headers["etag"] == f'"{ann[1].digest}"'
    again = {"If-None-Match": f'"other", W/{response.headers["etag"]}'}
    unchanged = world.client.get("/v1/users/ann/adapter", headers=world.token() | again)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == response.headers["etag"]
    other = world.client.get("/v1/users/ann/adapter", headers=world.token() | {"If-None-Match": '"other"'})
    assert other.content == b"adapter two"


def test_roll_back_moves_the_pointer_to_a_retired_version_or_to_the_generic_model(world, ann):
    def roll_back(to: int | None) -> int | None:
        answer = world.client.post("/v1/users/ann/rollback", json={"to": to}, headers=world.token())
        assert answer.status_code == 200, answer.text
        return answer.json()["serving"]

    assert roll_back(None) == 1
    assert world.client.get("/v1/users/ann/adapter", headers=world.token()).content == b"adapter one"
    assert roll_back(2) == 2
    assert roll_back(0) is None
    assert world.client.get("/v1/users/ann/adapter", headers=world.token()).json()["code"] == "no_adapter"


def test_a_rejected_version_is_never_served(world, ann):
    response = world.client.post("/v1/users/ann/rollback", json={"to": 3}, headers=world.token())
    assert (response.status_code, response.json()["code"]) == (404, "unknown_version")


def test_forget_gives_a_receipt_and_leaves_nothing(world, ann):
    receipt = world.client.delete("/v1/users/ann", headers=world.token()).json()
    assert receipt["complete"]
    assert (receipt["events"], receipt["versions"]) == (1, 3)
    for path in ("", "/adapter"):
        assert world.client.get(f"/v1/users/ann{path}", headers=world.token()).status_code == 404
    assert b"adapter two" not in b"".join(path.read_bytes() for path in world.files())


def test_a_basis_is_queued_listed_and_fetched(world, ann):
    queued = world.client.post("/v1/bases", json={"name": "next"}, headers=world.token("operator"))
    assert (queued.status_code, queued.json()["state"]) == (202, "queued")
    listed = world.client.get("/v1/bases", headers=world.token()).json()["bases"]
    assert [each["state"] for each in listed] == ["queued", "ready"]
    content = world.client.get(f"/v1/bases/{BASIS}", headers=world.token())
    assert content.content == b"PLB1 not really a basis"
    assert content.headers["etag"] == f'"{BASIS}"'


def test_operators_list_users_and_runs_in_pages(world, ann, event):
    world.post(event(1, user="bob", type="plora.consent.v1", data={"granted": True}))
    operator = world.token("operator")
    first = world.client.get("/v1/users?limit=1", headers=operator).json()["users"]
    rest = world.client.get(f"/v1/users?limit=5&after={first[0]['user']}", headers=operator).json()["users"]
    assert {each["user"] for each in first + rest} == {world.internal_id("ann"), world.internal_id("bob")}
    runs = world.client.get("/v1/runs?state=succeeded", headers=operator).json()["runs"]
    assert len(runs) == 3
    assert world.client.get("/v1/runs?state=failed", headers=operator).json() == {"runs": []}
    assert world.client.get("/v1/runs?state=none", headers=operator).status_code == 422


def test_rotated_keys_open_what_was_sealed_before(world, ann):
    rotation = world.client.post("/v1/keys/rotate", headers=world.token("operator")).json()
    assert rotation["epoch"] == 2
    assert rotation["rewrapped"] >= 2
    assert world.client.get("/v1/users/ann/adapter", headers=world.token()).content == b"adapter two"
    audit = world.client.get("/v1/audit/verify", headers=world.token("operator")).json()
    assert audit["ok"]
    assert audit["entries"] > 3


def test_a_user_id_in_a_path_is_percent_decoded(world, event):
    world.post(event(1, user="Zoë ☕"))
    found = world.client.get("/v1/users/Zo%C3%AB%20%E2%98%95", headers=world.token())
    assert found.json()["user"] == world.internal_id("Zoë ☕")


def test_a_user_is_told_why_in_numbers(world, ann):
    told = {
        "examples": 12,
        "generic": {"accuracy": 0.5, "nll": 1.2},
        "label_prior": {"accuracy": 0.5, "nll": 1.1},
        "wrong_user": {"accuracy": 0.5, "nll": 1.3},
        "personal": {"accuracy": 0.75, "nll": 0.9},
        "gain": 0.3,
        "gain_se": 0.1,
        "lead": 0.1,
        "lead_se": None,
        "part": "whole",
        "believed": {"gain": 0.2, "gain_sd": 0.1},
        "moved": 0.25,
        "drift": "steady",
        "drift_reason": "it gains 0.100 nats per example on 8 examples since the version",
        "fresh": 8,
        "since": None,
    }
    world.give_adapter("ann", b"adapter four", BASIS, scores=json.dumps(told))
    decided = world.client.get("/v1/users/ann", headers=world.token()).json()["decided"]
    assert (decided["serving"], decided["version"], decided["part"]) == ("whole", 4, "whole")
    assert (decided["examples"], decided["gain"], decided["lead"]) == (12, pytest.approx(0.3), 0.1)
    assert (decided["believed_gain"], decided["believed_gain_sd"]) == (0.2, 0.1)
    assert decided["certainty"] == pytest.approx(0.977, abs=0.001)
    assert decided["wrong_user_gap"] == pytest.approx(0.4)
    assert (decided["moved"], decided["drift"], decided["fresh"], decided["since"]) == (0.25, "steady", 8, None)
    assert decided["needed"] == {"examples": 4, "certainty": 0.7, "gain": 0.005, "events": 8}
    rejected = told | {"drift": "loses", "since": 17}
    world.give_adapter("ann", b"adapter five", BASIS, promoted=False, scores=json.dumps(rejected))
    world.client.post("/v1/users/ann/rollback", json={"to": 0}, headers=world.token())
    decided = world.client.get("/v1/users/ann", headers=world.token()).json()["decided"]
    assert (decided["serving"], decided["version"], decided["code"]) == ("generic", 5, "not_better_than_generic")
    assert (decided["drift"], decided["since"]) == ("loses", 17)


def test_where_nobody_was_judged_the_numbers_are_null(world, event, ann):
    world.post(event(1, user="bob", type="plora.consent.v1", data={"granted": True}))
    for user in ("ann", "bob"):
        decided = world.client.get(f"/v1/users/{user}", headers=world.token()).json()["decided"]
        assert decided["certainty"] is None
        assert decided["needed"]["examples"] == 4
