"""Mutated CloudEvents in every mode: taken or refused by a problem, never a failure, and no word of them in a log."""

import json
import os
import random
from collections import Counter
from copy import deepcopy

import pytest

from daemon.limits import Rates
from daemon.settings import Settings
from tests.daemon.conftest import World, open_world
from tests.faults.figures import record

SEED = int(os.environ.get("PLORA_SEED", "7"))
TEXT_CANARY, ID_CANARY = "quokka-in-a-text", "wombat-in-an-id"
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
TYPES = ("plora.example.v1", "plora.correction.v1", "plora.consent.v1", "plora.forget.v1", "other")
ODD = (
    None,
    True,
    -1,
    1e308,
    "",
    "\0",
    "\ud800",
    "x" * 5_000,
    [],
    {},
    [[[[[[[[[1]]]]]]]]],
    {"a": {"b": {}}},
    "2031-13-40",
)
BYTES = (b"", b"\0", b"\xff\xfe", b"{", b"[" * 500, b'"', b"}" * 50, b"NaN", b"\xed\xa0\x80", b"1e999", b"\\ud800")


@pytest.fixture
def fuzzed(tmp_path):
    chosen = Settings(
        data_dir=tmp_path / "data",
        keys_dir=tmp_path / "keys",
        trainer="in-process",
        default_consent=True,
        rate=Rates(user_per_s=1e6, user_burst=1e9, tenant_per_s=1e6, tenant_burst=1e9),
    )
    yield from open_world(chosen)


def event(chance: random.Random) -> dict[str, object]:
    number = chance.randrange(400)
    return {
        "specversion": "1.0",
        "type": chance.choice(TYPES),
        "source": f"/{ID_CANARY}",
        "id": f"{ID_CANARY}-{number}",
        "subject": f"{ID_CANARY}-user-{number % 9}",
        "time": "2031-01-01T00:00:00Z",
        "data": {"text": f"{TEXT_CANARY} {number}", "label": "good"},
    }


def bent(value: dict[str, object], chance: random.Random) -> dict[str, object]:
    """One to three places changed, taken away or added."""
    for _ in range(chance.randint(1, 3)):
        inner = value["data"] if chance.random() < 0.4 and isinstance(value.get("data"), dict) else value
        name = chance.choice([*inner, "more", "data_base64", "datacontenttype", "Upper"])
        if chance.random() < 0.25:
            inner.pop(name, None)
        else:
            inner[name] = deepcopy(chance.choice(ODD))
    return value


def cut(body: bytes, chance: random.Random) -> bytes:
    """Bytes changed, inserted, doubled or cut off."""
    at = chance.randrange(len(body) + 1)
    return chance.choice(
        [body[:at], body[:at] + chance.choice(BYTES) + body[at:], body + body[at:], body[:at] + chance.randbytes(3)]
    )


def message(chance: random.Random) -> tuple[dict[str, str], bytes]:
    mode = chance.choice(["structured", "batch", "binary"])
    if mode == "binary":
        made = bent(event(chance), chance)
        named = [(name, str(each)) for name, each in made.items() if name != "data" and isinstance(each, (str, int))]
        sendable = [(f"ce-{name}", each[:500]) for name, each in named if each.isascii() and each.isprintable()]
        return {"Content-Type": "application/json"} | dict(sendable), cut(json.dumps(made.get("data")).encode(), chance)
    value: object = bent(event(chance), chance)
    if mode == "batch":
        value = [bent(event(chance), chance) if chance.random() < 0.5 else event(chance) for _ in range(3)]
    body = json.dumps(value).encode()
    return {"Content-Type": BATCH if mode == "batch" else STRUCTURED}, cut(
        body, chance
    ) if chance.random() < 0.5 else body


def fuzz(world: World, count: int) -> Counter[int]:
    chance, statuses = random.Random(SEED), Counter[int]()
    for _ in range(count):
        headers, body = message(chance)
        response = world.client.post("/v1/events", content=body, headers=world.token() | headers)
        statuses[response.status_code] += 1
        assert response.status_code < 500
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            assert set(response.json()) == {"type", "title", "status", "code", "detail"}
            assert TEXT_CANARY not in response.text
    return statuses


def held(world: World, statuses: Counter[int], *, full: bool) -> None:
    told = world.log.getvalue() + world.client.get("/metrics").text
    files = b"".join(path.read_bytes() for path in world.files())
    found = sum(canary in told or canary.encode() in files for canary in (TEXT_CANARY, ID_CANARY))
    token = world.service.keyring.ensure_token("host")
    found += token in told or token.encode() in files
    record("C11 events", SEED, cases=statuses.total(), taken=statuses[202] + statuses[207], canaries=found, full=full)
    assert statuses[202] > 0
    assert sum(count for status, count in statuses.items() if 400 <= status < 500) > statuses.total() // 4
    assert found == 0
    assert world.service.parts.store.verify_audit().ok


def test_mutated_events_are_taken_or_refused(fuzzed):
    held(fuzzed, fuzz(fuzzed, 500), full=False)


@pytest.mark.long
def test_mutated_events_are_taken_or_refused_for_long(fuzzed):
    held(fuzzed, fuzz(fuzzed, 20_000), full=True)
