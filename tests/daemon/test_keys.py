"""Key epochs and transport keys over HTTP: told, rotated, rolled, and none of it to those who may not."""

from datetime import timedelta

import pytest

from storage.transport_keys import KEPT

OPERATOR = "operator"


def told(world) -> dict:
    answer = world.client.get("/v1/keys", headers=world.token(OPERATOR))
    assert answer.status_code == 200
    return answer.json()


def asked(world, action: str) -> dict:
    answer = world.client.post(f"/v1/keys/{action}", headers=world.token(OPERATOR))
    assert answer.status_code == 200
    return answer.json()


def test_a_new_daemon_tells_its_first_epoch(world, event):
    world.post(event())
    status = told(world)
    (epoch,) = status["epochs"]
    assert (status["provider"], status["answers"], status["failures"], status["transport"]) == ("file", True, 0, [1])
    assert (epoch["epoch"], epoch["state"], epoch["data_keys"], epoch["destroyed_at"]) == (1, "primary", 2, None)


def test_a_rotation_keeps_and_a_roll_destroys(world, event):
    world.post(event())
    assert asked(world, "rotate") == {"epoch": 2, "rewrapped": 2, "destroyed": [], "pending": []}
    status = told(world)
    assert [(each["state"], each["data_keys"]) for each in status["epochs"]] == [("enabled", 0), ("primary", 2)]
    assert status["transport"] == [1, 2]
    assert asked(world, "roll-epoch") == {"epoch": 3, "rewrapped": 2, "destroyed": [1, 2], "pending": []}
    status = told(world)
    assert [each["state"] for each in status["epochs"]] == ["destroyed", "destroyed", "primary"]
    assert all(each["destroyed_at"] for each in status["epochs"][:2])
    assert status["transport"] == [1, 2, 3]
    parts = world.service.parts
    parts.store.finish_roll(parts.now() + KEPT + timedelta(seconds=1))
    assert told(world)["transport"] == [3]
    assert world.post(event(2)).status_code == 202


@pytest.mark.parametrize(("method", "path"), [("GET", "keys"), ("POST", "keys/rotate"), ("POST", "keys/roll-epoch")])
def test_keys_are_for_those_with_the_scope(quiet_world, method, path):
    assert quiet_world.client.request(method, f"/v1/{path}").status_code == 401
    assert quiet_world.client.request(method, f"/v1/{path}", headers=quiet_world.token()).status_code == 403


def test_no_key_is_in_an_answer(world):
    answers = str([asked(world, "rotate"), asked(world, "roll-epoch"), told(world)])
    for number in world.service.keyring.transport.numbers():
        key = world.service.keyring.transport.of(number)
        assert key.hex() not in answers
