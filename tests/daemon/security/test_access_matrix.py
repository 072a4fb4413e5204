"""Every route of the document, asked by everyone: who may not gets no further, and what is another's is not there."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from daemon.limits import Rates
from daemon.rollouts import rules_text
from daemon.settings import Settings
from policies.rollout import Rules
from storage import NewRollout
from tests.daemon.conftest import JSON_EVENT, World, example, open_world
from tests.faults.figures import record

PUBLIC = {"/livez", "/startupz", "/readyz", "/metrics"}
HANDSHAKE = ("OPTIONS", "/v1/events")
OWN_USER, FOREIGN_USER = "ann", "zoe"
BODIES = {
    "/v1/predict": {"inputs": [{"user": OWN_USER, "text": "text"}]},
    "/v1/users/{user}/rollback": {"to": 0},
    "/v1/bases": {},
    "/v1/runs/dead-letter/retry": {"run": 1},
    "/v1/callers": {"name": "made", "scopes": ["predict"]},
    "/v1/tenants": {"name": "made"},
    "/v1/replay": {"user": OWN_USER},
    "/v1/rollouts": {"name": "made", "control": "generic", "share": 0.5},
    "/v1/rollouts/{rollout}/end": {"decision": "cancel"},
    "/v1/rollback": {"to": "2026-01-01T00:00:00Z"},
}
MAY = {  # who may, of those asked; everyone else must be refused
    ("POST", "/v1/events"): {"host"},
    ("POST", "/v1/predict"): {"host"},
    ("POST", "/v1/chat/completions"): {"host"},
    ("POST", "/v1/completions"): {"host"},
    ("GET", "/v1/models"): {"host"},
    ("GET", "/v1/changes"): {"host", "read-only", "operator", "system"},
    ("POST", "/v1/corrections"): {"host"},
    ("GET", "/v1/bases"): {"host", "read-only", "operator", "system"},
    ("GET", "/v1/bases/{fingerprint}"): {"host", "read-only", "operator", "system"},
    ("GET", "/v1/users/{user}"): {"host", "read-only", "operator", "system"},
    ("GET", "/v1/users/{user}/explanation"): {"host", "read-only", "operator", "system"},
    ("GET", "/v1/users/{user}/adapter"): {"host", "read-only", "operator", "system"},
    ("POST", "/v1/users/{user}/rollback"): {"host", "operator", "system"},
    ("DELETE", "/v1/users/{user}"): {"host", "operator", "system"},
    ("GET", "/v1/users/{user}/erasure"): {"host", "operator", "system"},
    ("GET", "/v1/rollouts"): {"host", "read-only", "operator", "system"},
    ("POST", "/v1/rollouts"): {"host", "operator", "system"},
    ("GET", "/v1/rollouts/{rollout}"): {"host", "read-only", "operator", "system"},
    ("POST", "/v1/rollouts/{rollout}/end"): {"host", "operator", "system"},
    ("POST", "/v1/rollback"): {"host", "operator", "system"},
    ("GET", "/v1/tenants"): {"system"},
    ("POST", "/v1/tenants"): {"system"},
}
OPERATING = {"operator", "system"}
SCOPES = {
    "host": ["events:write", "adapters:read", "predict", "users:admin"],
    "read-only": ["adapters:read"],
    "operator": ["operator"],
    "system": ["operator", "admin:tenants"],
}


@dataclass(frozen=True)
class Place:
    """A daemon with two tenants, each with a user and a basis, and a token for each role of the first."""

    world: World
    other: str
    tokens: dict[str, str | None]

    def ask(self, role: str, method: str, path: str, body: object = None) -> int:
        token = self.tokens[role]
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if (method, path) == ("POST", "/v1/events"):
            return self.world.client.post(
                path, json=example(secrets.randbits(60)), headers=headers | JSON_EVENT
            ).status_code
        return self.world.client.request(method, path, json=body, headers=headers).status_code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("matrix")
    chosen = Settings(
        data_dir=folder / "data",
        keys_dir=folder / "keys",
        trainer="in-process",
        default_consent=True,
        rate=Rates(source_burst=100_000),
    )
    for world in open_world(chosen):
        store, now = world.service.parts.store, world.service.parts.now()
        other = store.ensure_tenant("other", now).id
        tokens: dict[str, str | None] = {"none": None, "wrong": "plr_" + "x" * 43}
        for role, scopes in SCOPES.items():
            tokens[role] = secrets.token_urlsafe()
            store.add_caller(world.tenant, role, scopes, str(tokens[role]), now)
        for role, ends in {"expired": now - timedelta(seconds=1), "revoked": None}.items():
            tokens[role] = secrets.token_urlsafe()
            store.add_caller(world.tenant, role, SCOPES["system"], str(tokens[role]), now, expires_at=ends)
        store.revoke_caller(world.tenant, "revoked", "test", now)
        foreign = secrets.token_urlsafe()
        store.add_caller(other, "host", SCOPES["host"], foreign, now)
        world.post(example(user=OWN_USER))
        world.client.post(
            "/v1/events", json=example(user=FOREIGN_USER), headers={"Authorization": f"Bearer {foreign}"} | JSON_EVENT
        )
        record_of = store.open_basis(other, "main", "", now)
        claimed = store.claim_basis("test", 60, now)
        assert claimed is not None
        assert claimed.id == record_of.id
        store.finish_basis(claimed.id, claimed.epoch, "f0e1", "ba5e", b"content", "{}", now)
        store.start_rollout(other, NewRollout("theirs", "generic", 0.5, rules_text(Rules())), "test", now)
        yield Place(world, other, tokens)


def routes(place: Place) -> list[tuple[str, str]]:
    paths = place.world.client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, operations in paths.items() for method in operations]


def private(place: Place) -> list[tuple[str, str]]:
    return [each for each in routes(place) if each[1] not in PUBLIC and each != HANDSHAKE]


def test_no_route_is_forgotten_and_none_is_open_to_others(place):
    unexpected, cases = [], 0
    for method, template in private(place):
        path = template.format(user=OWN_USER, fingerprint="abcd", name="nobody", run=1, rollout=1)
        if method == "DELETE" and template == "/v1/users/{user}":
            path = "/v1/users/never-seen"
        allowed = MAY.get((method, template), OPERATING)
        for role in place.tokens:
            status = place.ask(role, method, path, BODIES.get(template))
            cases += 1
            if role not in SCOPES:
                expected = status == 401
            elif role in allowed:
                expected = status not in {401, 403} and status < 500
            else:
                expected = status == 403
            if not expected:
                unexpected.append((role, method, template, status))
    record("C8 access", 0, cases=cases, unexpected=len(unexpected))
    assert not unexpected


def test_what_is_anothers_is_not_there(place):
    """The same answer as for what is nowhere, so that nothing is learnt either way."""
    wrong, cases = [], 0
    for method, template in private(place):
        if "{" not in template:
            continue
        foreign = template.format(user=FOREIGN_USER, fingerprint="f0e1", name="host-of-other", run=1, rollout=1)
        nowhere = template.format(user="nobody", fingerprint="aaaa", name="nobody", run=1, rollout=1)
        for role in SCOPES:
            statuses = [place.ask(role, method, path, BODIES.get(template)) for path in (foreign, nowhere)]
            cases += 1
            expected = 404 if role in MAY.get((method, template), OPERATING) else 403
            if statuses != [expected, expected]:
                wrong.append((role, method, template, statuses))
    record("C8 foreign", 0, cases=cases, wrong=len(wrong))
    assert not wrong


def test_an_operator_sees_nothing_of_another_tenant(place):
    store = place.world.service.parts.store
    headers = {"Authorization": f"Bearer {place.tokens['operator']}"}
    hidden = [user.id for user in store.users(place.other, 100)] + ["f0e1", place.other]
    assert len(hidden) == 3
    for path in ("/v1/users", "/v1/bases", "/v1/runs", "/v1/runs/dead-letter", "/v1/erasures", "/v1/callers"):
        told = place.world.client.get(path, headers=headers)
        assert told.status_code == 200
        assert not [each for each in hidden if each in told.text]
    assert place.ask("operator", "GET", "/v1/callers?tenant=other") == 403
    assert place.ask("operator", "GET", "/v1/callers?tenant=nowhere") == 403
    assert place.ask("system", "GET", "/v1/callers?tenant=other") == 200


def test_a_flood_of_denials_is_a_handful_of_entries(place):
    store = place.world.service.parts.store
    place.world.service.parts.denials.flush()
    before = store.verify_audit().entries
    for _ in range(100):
        assert place.ask("read-only", "GET", "/v1/runs") == 403
        assert place.ask("wrong", "GET", "/v1/runs") in {401, 429}
        assert place.ask("host", "GET", f"/v1/users/{FOREIGN_USER}") == 404
    place.world.service.parts.denials.flush()
    after = store.verify_audit()
    assert after.ok
    assert after.entries - before <= 20
    told = place.world.client.get("/metrics").text
    assert 'plora_requests_denied_total{code="not_theirs"}' in told
