"""Tokens end: by their date, or when an operator says so; and nobody gives more than they may."""

from datetime import timedelta

import pytest

from daemon.commands import parser
from tests.daemon.conftest import JSON_EVENT


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def added(world, **changes: object):
    wanted = {"name": "shop", "scopes": ["adapters:read"]} | changes
    return world.client.post("/v1/callers", json=wanted, headers=world.token("operator"))


def test_a_token_is_shown_once_and_kept_as_its_hash(world):
    response = added(world)
    token = response.json()["token"]
    assert response.status_code == 201
    assert world.client.get("/v1/bases", headers=bearer(token)).status_code == 200
    listed = world.client.get("/v1/callers", headers=world.token("operator"))
    assert [each["name"] for each in listed.json()["callers"]] == ["host", "operator", "shop"]
    kept = b"".join(path.read_bytes() for path in world.files())
    assert token not in listed.text + world.log.getvalue()
    assert token.encode() not in kept


def test_a_token_ends_on_its_day(world):
    store, now = world.service.parts.store, world.service.parts.now()
    token = added(world, expires_days=1).json()["token"]
    assert store.caller(token, now + timedelta(hours=23)) is not None
    assert store.caller(token, now + timedelta(hours=25)) is None


def test_a_revoked_token_is_wrong_from_then_on_and_its_name_is_free(world):
    token = added(world).json()["token"]
    assert added(world).status_code == 409
    revoked = world.client.delete("/v1/callers/shop", headers=world.token("operator"))
    assert revoked.json()["revoked_at"]
    assert world.client.get("/v1/bases", headers=bearer(token)).status_code == 401
    again = added(world)
    assert again.status_code == 201
    assert world.client.get("/v1/bases", headers=bearer(again.json()["token"])).status_code == 200
    assert world.client.get("/v1/bases", headers=bearer(token)).status_code == 401


def test_a_revoked_token_file_stays_revoked_after_a_restart(world):
    store, now = world.service.parts.store, world.service.parts.now()
    token = world.service.keyring.ensure_token("host")
    assert world.client.delete("/v1/callers/host", headers=world.token("operator")).status_code == 200
    store.add_caller(world.tenant, "host", ["predict"], token, now)
    assert store.caller(token, now) is None


def test_an_operator_of_one_tenant_gives_nothing_beyond_it(world, event):
    made = world.client.post("/v1/tenants", json={"name": "other"}, headers=world.token("operator"))
    assert made.status_code == 201
    theirs = bearer(added(world, tenant="other", name="op", scopes=["operator"]).json()["token"])
    for scopes in (["admin:tenants"], ["operator", "admin:keys"]):
        wanted = {"name": "more", "scopes": scopes}
        assert world.client.post("/v1/callers", json=wanted, headers=theirs).status_code == 403
    wanted = {"name": "in", "scopes": ["predict"], "tenant": "default"}
    assert world.client.post("/v1/callers", json=wanted, headers=theirs).status_code == 403
    assert world.client.delete("/v1/callers/host?tenant=default", headers=theirs).status_code == 403
    assert world.client.get("/v1/tenants", headers=theirs).status_code == 403
    host = {"name": "their-host", "scopes": ["events:write"]}
    token = world.client.post("/v1/callers", json=host, headers=theirs).json()["token"]
    sent = world.client.post("/v1/events", json=event(), headers=bearer(token) | JSON_EVENT)
    assert sent.status_code == 202
    assert world.client.get("/v1/users/ann", headers=world.token()).status_code == 404


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"scopes": ["root"]}, 422),
        ({"scopes": []}, 422),
        ({"name": "../etc"}, 422),
        ({"name": "x" * 200}, 422),
        ({"expires_days": -1}, 422),
        ({"expires_days": 1e9}, 422),
        ({"tenant": "nowhere"}, 404),
    ],
)
def test_a_wrong_caller_is_not_added(world, changes: dict[str, object], status: int):
    assert added(world, **changes).status_code == status


def test_the_commands_ask_for_it():
    top = parser()
    line = "callers add shop --scope predict --scope events:write --tenant other --expires 30"
    options = top.parse_args(line.split())
    assert (options.name, options.scope, options.expires) == ("shop", ["predict", "events:write"], 30.0)
    assert top.parse_args(["tenants", "add", "other"]).name == "other"
    for line in ("callers list", "callers revoke shop --tenant other", "tenants list"):
        top.parse_args(line.split())
    with pytest.raises(SystemExit):
        top.parse_args(["callers", "add", "shop", "--scope", "root"])
