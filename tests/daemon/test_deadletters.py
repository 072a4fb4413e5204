"""Dead letters over HTTP: listed by their tenant's operators, and tried again on demand."""

import pytest

from tests.daemon.conftest import NOW, World

URL = "/v1/runs/dead-letter"


def killed(world: World, user: str) -> int:
    """The run of a user that was given up."""
    world.post(world_event(user))
    store = world.service.parts.store
    store.open_run(world.internal_id(user), "ba515", "a test", NOW)
    (run,) = store.claim_runs("test", 1, 60, NOW)
    store.fail_run(run.id, run.epoch, "MemoryError", "0 errors and 3 crashes", NOW)
    return run.id


def world_event(user: str) -> dict[str, object]:
    data = {"text": "a text", "label": "good"}
    return {"specversion": "1.0", "type": "plora.example.v1", "source": "/s", "id": user, "subject": user, "data": data}


def test_an_operator_lists_dead_letters_and_has_one_tried_again(world):
    first, second = killed(world, "ann"), killed(world, "bob")
    operator = world.token("operator")
    listed = world.client.get(URL, headers=operator).json()["runs"]
    assert [(each["run"], each["error_code"], each["state"]) for each in listed] == [
        (first, "MemoryError", "failed"),
        (second, "MemoryError", "failed"),
    ]
    assert world.client.get(URL, params={"after": first, "limit": 1}, headers=operator).json()["runs"] == listed[1:]
    assert "plora_dead_letters 2.0" in world.client.get("/metrics").text
    [told] = world.client.post(f"{URL}/retry", json={"run": first}, headers=operator).json()["retried"]
    assert told["dead"] == first
    again = world.client.post(f"{URL}/retry", json={"run": first}, headers=operator)
    assert (again.status_code, again.json()["code"]) == (404, "unknown_dead_letter")
    assert world.client.post(f"{URL}/retry", json={}, headers=operator).json()["retried"][0]["dead"] == second
    assert world.client.get(URL, headers=operator).json() == {"runs": []}
    assert "plora_dead_letters 0.0" in world.client.get("/metrics").text


def test_hosts_and_other_tenants_see_no_dead_letters(world):
    number = killed(world, "ann")
    other = world.service.parts.store.ensure_tenant("other", NOW).id
    stranger = world.caller("operator", tenant=other)
    assert world.client.get(URL, headers=world.token("host")).status_code == 403
    assert world.client.post(f"{URL}/retry", json={}, headers=world.token("host")).status_code == 403
    assert world.client.get(URL, headers=stranger).json() == {"runs": []}
    assert world.client.post(f"{URL}/retry", json={"run": number}, headers=stranger).status_code == 404
    assert world.client.post(f"{URL}/retry", json={}, headers=stranger).json() == {"retried": []}


@pytest.mark.parametrize("body", [{"run": 0}, {"run": "1"}, {"run": 2**63}, {"all": True}, []])
def test_a_wrong_request_is_refused(quiet_world, body):
    answer = quiet_world.client.post(f"{URL}/retry", json=body, headers=quiet_world.token("operator"))
    assert answer.status_code == 422
