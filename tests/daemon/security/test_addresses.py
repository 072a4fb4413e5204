"""Nothing that is sent or named makes the daemon ask an address or touch a file of somebody else's choosing."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from daemon import addresses
from daemon.jwks import KeysUnreadable, fetch
from daemon.settings import InvalidSetting, load
from storage import KeyRing, StorageError
from tests.daemon.conftest import JSON_EVENT
from tests.faults.figures import record

URLS = {  # where a careless reader would go
    "decimal": "http://2852039166/latest/meta-data",
    "decimal loopback": "https://2130706433/k",
    "octal": "https://0251.0376.0251.0376/k",
    "octal loopback": "https://0177.0.0.1/k",
    "hexadecimal": "https://0xa9fea9fe/k",
    "hexadecimal parts": "https://0xa9.0xfe.0xa9.0xfe/k",
    "short": "https://127.1/k",
    "zero": "https://0/k",
    "unspecified": "https://0.0.0.0/k",
    "unspecified, six": "https://[::]/k",
    "mapped metadata": "https://[::ffff:169.254.169.254]/k",
    "mapped loopback": "https://[::ffff:7f00:1]/k",
    "six to four": "https://[2002:a9fe:a9fe::1]/k",
    "metadata": "http://169.254.169.254/k",
    "link-local, six": "https://[fe80::1]/k",
    "a zone": "https://[fe80::1%25eth0]/k",
    "multicast": "https://224.0.0.1/k",
    "broadcast": "https://255.255.255.255/k",
    "a user": "https://idp.example@169.254.169.254/k",
    "a backslash": "https://idp.example\\@169.254.169.254/k",
    "an escape in the host": "https://169%2e254.169.254/k",
    "a fragment": "https://idp.example#@169.254.169.254/k",
    "another scheme": "gopher://127.0.0.1:6379/_INFO",
    "a file": "file:///etc/passwd",
    "no scheme": "//169.254.169.254/k",
    "no host": "https:///k",
    "a port of nothing": "https://idp.example:0/k",
    "a port beyond": "https://idp.example:99999/k",
    "a line break": "https://idp.example/k\r\nHost: evil",
    "a way up": "https://idp.example/../../k",
    "other digits": "https://\u2460\u2461\u2466.0.0.1/k",
    "a wide dot": "https://127\u30020\u30020\u30021/k",
    "a NUL": "https://idp.example/\0k",
}
FOUND = {  # what a name may turn out to be: the answer of a resolver that changes its mind
    "loopback": ["127.0.0.1"],
    "metadata": ["169.254.169.254"],
    "one of two": ["93.184.216.34", "127.0.0.1"],
    "mapped": ["::ffff:169.254.169.254"],
    "six": ["::1"],
    "nothing": [],
}
NAMES = ["../../etc/passwd", "/etc/passwd", "a\0b", "..", "http://169.254.169.254/", "file:///etc/passwd", "~root/.ssh"]
_watching: list[list[tuple[str, str]]] = []


def _hear(action: str, arguments: tuple[object, ...]) -> None:
    if _watching and action in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        _watching[-1].append((action, str(arguments[-1] if action == "socket.connect" else arguments[0])))
    elif _watching and action == "open" and isinstance(arguments[0], str):
        _watching[-1].append((action, arguments[0]))


sys.addaudithook(_hear)


@contextmanager
def watching() -> Iterator[list[tuple[str, str]]]:
    """Every connection, look-up and opened file of this process meanwhile."""
    seen: list[tuple[str, str]] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def asked(seen: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [each for each in seen if each[0] != "open"]


def opened(seen: list[tuple[str, str]], *places: Path) -> list[str]:
    """Files outside these places, without Python's own."""
    own = (*map(str, places), sys.prefix, sys.base_prefix, str(Path.cwd()), "/dev/", "/proc/")
    return [name for action, name in seen if action == "open" and name.startswith("/") and not name.startswith(own)]


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
@pytest.mark.parametrize("setting", ["PLORA_OIDC_JWKS_URL", "PLORA_TRAINER_URL", "PLORA_URL"])
def test_an_address_that_reads_two_ways_is_refused_at_the_start(url: str, setting: str):
    others = {"PLORA_OIDC_ISSUER": "i", "PLORA_OIDC_AUDIENCE": "a"} if "OIDC" in setting else {}
    with watching() as seen, pytest.raises(InvalidSetting):
        load(others | {setting: url})
    assert not asked(seen)


@pytest.mark.parametrize(
    "url", ["https://idp.example/k", "https://idp.internal:8443/a/b?c=d", "http://127.0.0.1:9/k", "https://10.1.2.3/k"]
)
def test_a_plain_address_is_taken(url: str):
    assert addresses.flaw(url, secret=True) is None


def test_what_is_trusted_comes_by_https_but_from_this_machine():
    assert addresses.flaw("http://idp.example/k", secret=True) == "an https URL"
    assert addresses.flaw("http://trainer:8000", secret=False) is None


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
def test_a_name_that_leads_inside_is_not_asked(found: list[str]):
    with watching() as seen, pytest.raises(KeysUnreadable):
        fetch("https://idp.example/k", lambda: 0.0, resolve=lambda *_: found)
    assert not asked(seen)


def test_no_string_of_a_request_is_an_address_or_a_path(quiet_world, tmp_path: Path):
    """Every place of the API that takes a string gets every vector."""
    world, vectors = quiet_world, [*URLS.values(), *NAMES]
    data = world.service.parts.settings.data_dir
    both = world.caller("events:write", "adapters:read", "users:admin", "predict", "operator")
    before = sorted(path.relative_to(data) for path in data.rglob("*"))
    statuses: list[int] = []
    with watching() as seen:
        for each in vectors:
            statuses += [
                world.client.request(*request, headers=both | headers, **more).status_code
                for request, headers, more in _requests(each)
            ]
    assert max(statuses) < 500
    assert not asked(seen)
    assert not opened(seen, data, world.service.parts.settings.keys_path, tmp_path)
    assert sorted(path.relative_to(data) for path in data.rglob("*")) == before
    record("C10", 0, vectors=len(URLS) + len(FOUND) + len(NAMES), requests=len(statuses), connections=len(asked(seen)))


def _requests(vector: str) -> Iterator[tuple[tuple[str, str], dict[str, str], dict[str, object]]]:
    part, plain = quote(vector, safe=""), vector.encode("ascii", "ignore").decode()
    header = "".join(each for each in plain if each.isprintable())
    for path in (f"/v1/users/{part}", f"/v1/users/{part}/adapter", f"/v1/bases/{part}", f"/{part}", f"/v1/{part}"):
        yield ("GET", path), {}, {}
    yield ("DELETE", f"/v1/callers/{part}"), {}, {}
    yield ("POST", "/v1/bases"), {}, {"json": {"name": vector}}
    yield ("POST", "/v1/callers"), {}, {"json": {"name": vector, "scopes": [vector]}}
    yield ("POST", "/v1/predict"), {}, {"json": {"inputs": [{"user": vector, "text": vector}]}}
    yield ("GET", "/v1/users"), {}, {"params": {"after": vector}}
    yield ("OPTIONS", "/v1/events"), {"WebHook-Request-Origin": header, "WebHook-Request-Callback": header}, {}
    for name in ("source", "subject", "id", "type", "dataschema", "schemaurl", "datacontenttype"):
        event = {"specversion": "1.0", "type": "plora.consent.v1", "source": "/s", "id": "1", "subject": "u"}
        yield ("POST", "/v1/events"), JSON_EVENT, {"json": event | {name: vector}}
    yield ("GET", "/v1/bases"), {"Authorization": f"Bearer {header}"}, {}
    yield ("GET", "/v1/bases"), {"X-Forwarded-Host": header, "Host": "evil.example", "Forwarded": header}, {}


@pytest.mark.parametrize("name", [*NAMES, "", "UPPER", "a/b", "a" * 300])
def test_the_name_of_a_token_is_no_path(tmp_path: Path, name: str):
    ring = KeyRing.create(tmp_path / "keys")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError):
        ring.ensure_token(name)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_token_behind_a_symbolic_link_is_not_read(tmp_path: Path):
    ring = KeyRing.create(tmp_path / "keys")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "keys" / "host.token").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError):
        ring.ensure_token("host")


def test_a_connection_would_have_been_seen():
    with socket.create_server(("127.0.0.1", 0)) as listener, watching() as seen:
        socket.create_connection(listener.getsockname()).close()
    assert asked(seen)
