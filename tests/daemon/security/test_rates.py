"""Who asks too much waits, and nobody else does."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.denials import MOST_KEPT, PERIOD, Denials, Denied
from daemon.limits import Admission, Kind, Rates
from daemon.settings import InvalidSetting, Settings, load
from tests.daemon.conftest import JSON_EVENT, World, example, open_world

NOW = datetime(2031, 1, 1, tzinfo=UTC)
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


@pytest.fixture
def narrow(settings: Settings) -> Iterator[World]:
    rates = Rates(tenant_per_s=0.01, tenant_burst=30, user_per_s=0.01, user_burst=3, source_per_s=0.01, source_burst=5)
    yield from open_world(replace(settings, default_consent=True, rate=rates))


def test_a_tenant_that_asks_too_much_is_told_when_to_come_again(narrow):
    answers = [narrow.client.get("/v1/bases", headers=narrow.token()) for _ in range(31)]
    assert [each.status_code for each in answers] == [200] * 30 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 99
    assert answers[-1].headers["content-type"] == "application/problem+json"
    assert answers[-1].json()["code"] == "rate_limited"
    assert 'plora_rate_limited_total{kind="tenant"} 1.0' in narrow.client.get("/metrics").text
    store = narrow.service.parts.store
    other = store.ensure_tenant("other", NOW).id
    assert narrow.client.get("/v1/bases", headers=narrow.caller("adapters:read", tenant=other)).status_code == 200


def test_one_user_of_a_batch_does_not_keep_the_others_out(narrow):
    events = [example(number) for number in range(4)] + [example(1, user="bob")]
    response = narrow.client.post("/v1/events", content=json.dumps(events), headers=narrow.token() | BATCH)
    assert [each["status"] for each in response.json()["outcomes"]] == [202, 202, 202, 429, 202]
    assert narrow.counts() == 4
    alone = narrow.post(example(9))
    assert (alone.status_code, alone.json()["code"]) == (429, "rate_limited")
    assert int(alone.headers["retry-after"]) >= 99
    forget = example(10, type="plora.forget.v1", data=...)
    assert narrow.client.post("/v1/events", json=forget, headers=narrow.token() | JSON_EVENT).status_code == 202


def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(narrow):
    wrong = {"Authorization": "Bearer wrong"}
    assert [narrow.client.get("/v1/bases", headers=wrong).status_code for _ in range(6)] == [401] * 5 + [429]
    assert narrow.client.get("/v1/bases", headers=narrow.token()).status_code == 200


def test_a_batch_of_a_thousand_is_nothing_to_the_defaults():
    admission = Admission(Rates(), lambda: NOW)
    assert admission.wait_s(Kind.TENANT, "t", cost=1_038) == 0
    assert all(admission.wait_s(Kind.USER, "t", "u") == 0 for _ in range(1_038))


def test_what_is_remembered_is_bounded_and_says_nothing_of_anybody():
    admission = Admission(Rates(), lambda: NOW, keep=100)
    for number in range(10_000):
        admission.wait_s(Kind.SOURCE, f"canary-{number}")
    assert len(admission) == 100
    assert "canary" not in repr(vars(admission))


def test_names_in_parts_do_not_run_together():
    admission = Admission(Rates(user_per_s=1, user_burst=1), lambda: NOW)
    assert admission.wait_s(Kind.USER, "a", "bc") == 0
    assert admission.wait_s(Kind.USER, "ab", "c") == 0
    assert admission.wait_s(Kind.USER, "a", "bc") == 1


@pytest.mark.parametrize("name", ["TENANT_PER_S", "USER_BURST", "SOURCE_PER_S"])
def test_a_rate_of_nothing_is_refused_at_the_start(name: str):
    with pytest.raises(InvalidSetting):
        load({f"PLORA_RATE_{name}": "0"})


def test_denials_are_counted_by_the_minute(world):
    now, store = [NOW], world.service.parts.store
    denials, denied = Denials(store, lambda: now[0]), Denied(world.tenant, "c" * 32, "scope_missing")
    before = store.verify_audit().entries
    for _ in range(1_000):
        denials.add(denied)
    assert store.verify_audit().entries == before + 1
    now[0] += PERIOD
    denials.add(denied)
    assert store.verify_audit().entries == before + 2
    for number in range(MOST_KEPT + 500):
        denials.add(Denied("", f"caller-{number}", "scope_missing"))
    now[0] += timedelta(seconds=1)
    denials.flush()
    assert before + MOST_KEPT < store.verify_audit().entries <= before + MOST_KEPT + 4
