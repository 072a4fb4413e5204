"""Mutated tokens, the daemon's own and an identity provider's: none is taken, none is a failure, none is in the log."""

import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from jwt.utils import base64url_decode

from daemon.limits import Rates
from daemon.settings import load
from tests.daemon.conftest import World, open_world
from tests.daemon.security.provider import AUDIENCE, ISSUER, SUBJECT, Provider
from tests.faults.figures import record

SEED = int(os.environ.get("PLORA_SEED", "11"))
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def fuzzed(tmp_path: Path, provider: Provider):
    keys = tmp_path / "jwks.json"
    keys.write_bytes(provider.jwks())
    chosen = load({"PLORA_OIDC_ISSUER": ISSUER, "PLORA_OIDC_AUDIENCE": AUDIENCE, "PLORA_OIDC_JWKS_FILE": str(keys)})
    rates = Rates(source_per_s=1e6, source_burst=1e9)
    folders = {"data_dir": tmp_path / "data", "keys_dir": tmp_path / "keys"}
    yield from open_world(replace(chosen, **folders, trainer="in-process", rate=rates))


def bent(token: str, chance: random.Random) -> str:
    """Characters changed, cut, doubled, swapped between parts, or a part taken away; what one byte less says is new."""
    at, kind = chance.randrange(len(token)), chance.randrange(6)
    parts = token.split(".")
    if kind == 0:
        return token[:at] + chance.choice([each for each in ALPHABET if each != token[at]]) + token[at + 1 :]
    if kind == 1:
        return token[:at] or "."
    if kind == 2:
        return token[:at] + token
    if kind == 3:
        return ".".join(chance.sample(parts, len(parts))) + "."
    if kind == 4:
        return token[:at] + chance.choice(["..", "=", "%00", " x", "\x7f", "é"]) + token[at:]
    return ".".join(parts[:-1]) + "." + "".join(chance.choices(ALPHABET, k=len(parts[-1])))


def fuzz(world: World, provider: Provider, count: int) -> tuple[Counter[int], list[str]]:
    chance, statuses = random.Random(SEED), Counter[int]()
    good = [
        world.service.keyring.ensure_token("host"),
        *(provider.token(alg, exp=4_000_000_000) for alg in provider.keys),
    ]
    for _ in range(count):
        token = chance.choice(good)
        sent = bent(token, chance)
        response = world.client.get("/v1/bases", headers={"Authorization": f"Bearer {sent}".encode()})
        statuses[response.status_code] += 1
        if _same(sent, token):
            continue
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
    assert all(world.client.get("/v1/bases", headers={"Authorization": f"Bearer {each}"}).is_success for each in good)
    return statuses, good


def _same(sent: str, token: str) -> bool:
    """Whether only bits are changed that base64 leaves out, so that the very same token was sent."""
    try:
        return [base64url_decode(each) for each in sent.split(".")] == [
            base64url_decode(each) for each in token.split(".")
        ]
    except ValueError:
        return False


def held(world: World, seen: tuple[Counter[int], list[str]], *, full: bool) -> None:
    statuses, good = seen
    world.service.parts.denials.flush()
    told = world.log.getvalue() + world.client.get("/metrics").text
    files = b"".join(path.read_bytes() for path in world.files())
    found = sum(each in told or each.encode() in files for each in [*good, SUBJECT])
    record("C11 tokens", SEED, cases=statuses.total(), refused=statuses[401], canaries=found, full=full)
    assert found == 0


def test_mutated_tokens_are_refused(fuzzed, provider):
    held(fuzzed, fuzz(fuzzed, provider, 500), full=False)


@pytest.mark.long
def test_mutated_tokens_are_refused_for_long(fuzzed, provider):
    held(fuzzed, fuzz(fuzzed, provider, 20_000), full=True)
