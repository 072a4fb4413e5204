"""Tokens of an identity provider: only what it signed for this daemon, now, by an algorithm that the operator chose."""

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from daemon.identity import ALGORITHMS
from daemon.jwks import KEPT_S, PAUSE_S, Jwks, KeysUnreadable, fetch, read_keys
from daemon.settings import InvalidSetting, Settings, load
from tests.daemon.conftest import World, open_world
from tests.daemon.security.provider import AUDIENCE, ISSUER, MADE, SUBJECT, Provider, raw, serving
from tests.faults.figures import record

OF_IT = {"PLORA_OIDC_ISSUER": ISSUER, "PLORA_OIDC_AUDIENCE": AUDIENCE, "PLORA_OIDC_JWKS_URL": "https://idp.example/k"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serving(Provider()) as provider:
        yield provider


@pytest.fixture(scope="module")
def world(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("oidc")
    chosen = load(OF_IT | {"PLORA_OIDC_JWKS_URL": provider.url, "PLORA_RATE_SOURCE_BURST": "10000"})
    chosen = replace(chosen, data_dir=folder / "data", keys_dir=folder / "keys", trainer="in-process")
    yield from open_world(chosen)


def status(world: World, token: str, path: str = "/v1/bases") -> int:
    return world.client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize("alg", MADE)
def test_what_the_provider_signed_is_taken(world, provider, alg):
    assert status(world, provider.token(alg)) == 200


def test_a_token_reaches_no_further_than_its_tenant(world, provider):
    token = provider.token()
    assert status(world, token, "/v1/users") == 200
    assert status(world, token, "/v1/tenants") == 403


def test_without_scopes_it_is_known_and_may_nothing(world, provider):
    assert status(world, provider.token(scope=...)) == 403
    assert status(world, provider.token(scope=5)) == 403
    assert status(world, provider.token(scope=["adapters:read"])) == 200


def _confused(provider: Provider) -> str:
    """The public key as the secret of an HMAC; the library refuses to make such a token."""
    header = {"alg": "HS256", "kid": provider.keys["RS256"][0], "typ": "JWT"}
    signed = raw(header, provider.claims(), b"").rstrip(".")
    signature = hmac.digest(provider.public_pem("RS256"), signed.encode(), hashlib.sha256)
    return raw(header, provider.claims(), signature)


def _of_another(provider: Provider, **headers: object) -> str:
    """Signed by a key that is not the provider's, under a name that is."""
    return jwt.encode(
        provider.claims(), MADE["RS256"](), algorithm="RS256", headers={"kid": provider.keys["RS256"][0]} | headers
    )


def _bent(provider: Provider) -> str:
    head, _, tail = provider.token().split(".")
    return ".".join([head, raw({}, provider.claims(scope="operator"), b"").split(".")[1], tail])


NOW = 1_700_000_000
REFUSED: dict[str, Callable[[Provider], str]] = {
    "alg none": lambda p: raw({"alg": "none", "kid": p.keys["RS256"][0]}, p.claims(), b""),
    "alg None in capitals": lambda p: raw({"alg": "NONE", "kid": p.keys["RS256"][0]}, p.claims(), b""),
    "the public key as a secret": _confused,
    "another issuer": lambda p: p.token(iss="https://evil.example"),
    "another audience": lambda p: p.token(aud="another"),
    "a list of other audiences": lambda p: p.token(aud=["another", "more"]),
    "expired": lambda p: p.token(exp=NOW, nbf=NOW - 60),
    "not yet": lambda p: p.token(nbf=4_000_000_000, exp=4_100_000_000),
    "an unknown key": lambda p: p.token(headers={"kid": "unknown"}),
    "1 MB": lambda p: p.token(padding="x" * 1_000_000),
    "more than 16 KiB": lambda p: p.token(padding="x" * 16_384),
    "a key in its header": lambda p: _of_another(p, jwk={"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
    "an address in its header": lambda p: p.token(headers={"jku": "https://evil.example/jwks"}),
    "a certificate in its header": lambda p: p.token(headers={"x5u": "https://evil.example/c"}),
    "no exp": lambda p: p.token(exp=...),
    "no nbf": lambda p: p.token(nbf=...),
    "no iss": lambda p: p.token(iss=...),
    "no aud": lambda p: p.token(aud=...),
    "no sub": lambda p: p.token(sub=...),
    "b64": lambda p: p.token(headers={"b64": False, "crit": ["b64"]}),
    "crit": lambda p: p.token(headers={"crit": ["exp"]}),
    "another's signature": _of_another,
    "an ES signature of zeros": lambda p: raw({"alg": "ES256", "kid": p.keys["ES256"][0]}, p.claims(), bytes(64)),
    "one key's name on another's token": lambda p: p.token("ES256", headers={"kid": p.keys["RS256"][0]}),
    "an algorithm that nobody chose": lambda p: jwt.encode(
        p.claims(), p.keys["RS256"][1], algorithm="PS256", headers={"kid": p.keys["RS256"][0]}
    ),
    "no kid": lambda p: jwt.encode(p.claims(), p.keys["RS256"][1], algorithm="RS256"),
    "a token of another kind": lambda p: p.token(headers={"typ": "dpop+jwt"}),
    "an exp that is text": lambda p: raw({"alg": "RS256", "kid": "kid-RS256"}, p.claims(exp="soon"), bytes(256)),
    "changed claims": _bent,
    "a tail cut off": lambda p: p.token()[:-8],
    "dots": lambda _: "..",
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused(world, provider, make):
    assert status(world, make(provider)) in {401, 431}
    assert status(world, provider.token()) == 200


def test_nobody_is_named_by_who_they_are(world, provider):
    status(world, provider.token(), "/v1/tenants")
    told = world.log.getvalue() + world.client.get("/metrics").text
    files = b"".join(path.read_bytes() for path in world.files())
    assert SUBJECT not in told
    assert SUBJECT.encode() not in files


def test_c9_is_kept(world, provider):
    refused = sum(status(world, make(provider)) in {401, 431} for make in REFUSED.values())
    taken = sum(status(world, provider.token(alg)) == 200 for alg in MADE)
    record("C9", 0, refused=refused, of=len(REFUSED), good=taken)
    assert (refused, taken) == (len(REFUSED), len(MADE))


def test_new_keys_are_found_and_old_ones_end_and_nobody_asks_often():
    now, provider = [0.0], Provider()
    served = [provider.jwks()]

    def load() -> bytes:
        provider.asked += 1
        if served[0] == b"":
            raise KeysUnreadable("away")
        return served[0]

    keys = Jwks(load, lambda: now[0])
    assert keys.find("kid-RS256") is not None
    for number in range(1_000):
        assert keys.find(f"invented-{number}") is None
    assert provider.asked == 1
    provider.rotate("RS256")
    served[0] = provider.jwks()
    now[0] += PAUSE_S
    assert keys.find("kid-RS256+") is not None
    assert keys.find("kid-RS256") is None
    served[0] = b""
    now[0] += KEPT_S
    assert keys.find("kid-RS256+") is not None  # the provider is away
    assert provider.asked == 3


def test_a_redirect_an_error_and_too_much_are_no_keys(provider):
    steps = [0.0]
    with serving(Provider()) as bad:
        for answer in [
            (302, {"Location": provider.url}, b""),
            (500, {}, bad.jwks()),
            (200, {}, b" " * 300_000),
        ]:
            bad.answer = answer
            before = provider.asked
            with pytest.raises(KeysUnreadable):
                fetch(bad.url, lambda: steps[0])
            assert provider.asked == before


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 5}', b"[" * 100_000, b'{"keys": null}'])
def test_what_is_no_jwks_is_refused(document: bytes):
    with pytest.raises(KeysUnreadable):
        read_keys(document)


def test_keys_that_are_not_for_signatures_are_left_out():
    [good] = [each for each in json.loads(Provider().jwks())["keys"] if each["kty"] == "RSA"]
    short = good | {"kid": "short", "n": "w" * 171}
    others = [
        good | {"kid": "enc", "use": "enc"},
        good | {"kid": "private", "d": "AQAB"},
        good | {"kid": 5},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "bad"},
        "text",
        short,
    ]
    assert set(read_keys(json.dumps({"keys": [*others, good]}).encode())) == {good["kid"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("PLORA_OIDC_ALGORITHMS", each) for each in ("HS256", "none", "RS256,HS512", "", "rs256")),
        ("PLORA_OIDC_AUDIENCE", ""),
        ("PLORA_OIDC_ISSUER", ""),
        ("PLORA_OIDC_JWKS_URL", ""),
        ("PLORA_OIDC_JWKS_URL", "http://idp.example/k"),
        ("PLORA_OIDC_JWKS_URL", "file:///etc/passwd"),
        ("PLORA_OIDC_JWKS_FILE", "keys.json"),
        ("PLORA_OIDC_SCOPE_CLAIM", ""),
    ],
)
def test_a_provider_that_could_not_be_trusted_is_refused_at_the_start(name: str, value: str):
    with pytest.raises(InvalidSetting, match="PLORA_OIDC"):
        load(OF_IT | {name: value})


def test_every_algorithm_is_asymmetric():
    assert not [each for each in ALGORITHMS if each.startswith(("HS", "none"))]


def test_a_file_of_keys_and_a_claim_for_the_tenant(provider, tmp_path: Path):
    keys = tmp_path / "jwks.json"
    keys.write_bytes(provider.jwks())
    of_file = OF_IT | {"PLORA_OIDC_JWKS_URL": "", "PLORA_OIDC_JWKS_FILE": str(keys), "PLORA_OIDC_TENANT_CLAIM": "org"}
    settings: Settings = replace(load(of_file), data_dir=tmp_path / "d", keys_dir=tmp_path / "k", trainer="in-process")
    level = logging.getLogger().level
    for world in open_world(settings):
        assert status(world, provider.token(org="default")) == 200
        assert status(world, provider.token(org="unknown")) == 401
        assert status(world, provider.token(org=["default"])) == 401
        assert status(world, provider.token()) == 401
    assert logging.getLogger().level == level
