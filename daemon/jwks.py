"""The public keys of an identity provider: kept in memory, and fetched anew when a token names one that is not there.

Theory. What is kept serves on while the provider is away. A token with an unknown key causes a fetch, but no more than
one a minute, so that invented key ids cost the provider nothing. Once an hour the keys are fetched without such a
reason, so that one which was withdrawn ends. The address is looked up once for each fetch, checked, and connected to as
found: a name that changes its address between check and use gains nothing. Redirects are not followed.
"""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from daemon import addresses, logs
from daemon.errors import DaemonError

MOST_BYTES, MOST_KEYS, KID_CHARS = 1 << 18, 100, 256
TIMEOUT_S, FETCH_S, WAIT_S = 3.0, 6.0, 2.0
PAUSE_S, KEPT_S = 60.0, 3_600.0
RSA_BITS = 2_048
OF_CURVE = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA",)}
OF_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
Key = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
Resolve = Callable[[str, int], list[str]]


class KeysUnreadable(DaemonError):
    """The provider's keys cannot be had now, or are none."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"the keys of the identity provider cannot be read: {self.problem}"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key, and the algorithms that its signatures may be of."""

    key: Key = field(repr=False)
    algorithms: tuple[str, ...]


class Jwks:
    """The keys by their ids. Thread-safe; `load` gives the document and may raise KeysUnreadable."""

    def __init__(self, load: Callable[[], bytes], monotonic: Callable[[], float]) -> None:
        self._load, self._monotonic = load, monotonic
        self._keys: Mapping[str, PublicKey] = {}
        self._asked_at: float | None = None
        self._fetching = threading.Lock()

    def find(self, kid: str) -> PublicKey | None:
        """The key of this id; None if the provider has none."""
        known = self._keys.get(kid)
        if self._is_due(PAUSE_S if known is None else KEPT_S) and self._fetching.acquire(
            timeout=WAIT_S if known is None else 0
        ):
            try:
                if self._is_due(PAUSE_S if kid not in self._keys else KEPT_S):
                    self._fetch()
            finally:
                self._fetching.release()
        return self._keys.get(kid)

    def _is_due(self, after_s: float) -> bool:
        return self._asked_at is None or self._monotonic() - self._asked_at >= after_s

    def _fetch(self) -> None:
        self._asked_at = self._monotonic()
        try:
            self._keys = read_keys(self._load())
        except KeysUnreadable as error:
            logs.write_error("jwks", error, {"count": len(self._keys)})
        else:
            logs.write("jwks", {"count": len(self._keys)})


def read_keys(document: bytes) -> dict[str, PublicKey]:
    """The usable keys of a JWKS document, by id: public, for signatures, with an id. Raises KeysUnreadable."""
    try:
        found = json.loads(document)
        listed = found["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeysUnreadable("no JWKS document") from None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise KeysUnreadable(f"not a list of at most {MOST_KEYS} keys")
    keys: dict[str, PublicKey] = {}
    for each in listed:
        if isinstance(each, dict) and (key := _public(each)) is not None:
            keys.setdefault(each["kid"], key)
    return keys


def read_file(path: Path) -> bytes:
    """A JWKS document from a file. Raises KeysUnreadable."""
    try:
        with path.open("rb") as file:
            document = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise KeysUnreadable(error.strerror or "the file") from error
    if len(document) > MOST_BYTES:
        raise KeysUnreadable(f"more than {MOST_BYTES} bytes")
    return document


def resolve(host: str, port: int) -> list[str]:
    """Every address of `host`, as the system knows them."""
    return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def fetch(url: str, monotonic: Callable[[], float], *, resolve: Resolve = resolve) -> bytes:
    """A JWKS document over HTTP, from the address that was checked. Raises KeysUnreadable."""
    asked = httpx.URL(url)
    try:
        found = resolve(asked.host, asked.port or (443 if asked.scheme == "https" else 80))
    except OSError as error:
        raise KeysUnreadable("its name has no address") from error
    address = addresses.choose(found, local=addresses.is_local(asked.host))
    if address is None:
        raise KeysUnreadable("its name leads to an address that is not asked")
    headers = {"Host": asked.netloc.decode("ascii"), "Accept": "application/json", "Accept-Encoding": "identity"}
    until = monotonic() + FETCH_S
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
            client.stream(
                "GET", asked.copy_with(host=address), headers=headers, extensions={"sni_hostname": asked.host}
            ) as response,
        ):
            return _body(response, lambda: monotonic() > until)
    except httpx.HTTPError as error:
        raise KeysUnreadable(type(error).__name__) from error


def _body(response: httpx.Response, is_late: Callable[[], bool]) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise KeysUnreadable(f"status {response.status_code}")
    document = bytearray()
    for chunk in response.iter_raw():
        document += chunk
        if len(document) > MOST_BYTES:
            raise KeysUnreadable(f"more than {MOST_BYTES} bytes")
        if is_late():
            raise KeysUnreadable(f"longer than {FETCH_S:g} seconds")
    return bytes(document)


def _public(found: Mapping[str, object]) -> PublicKey | None:
    """None for a key of another kind or use, or one that is not sound."""
    kid, said = found.get("kid"), found.get("alg")
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_CHARS or found.get("use", "sig") != "sig" or "d" in found:
        return None
    fitting = OF_RSA if found.get("kty") == "RSA" else OF_CURVE.get(str(found.get("crv")), ())
    algorithms = tuple(each for each in fitting if said in {None, each})
    if not algorithms:
        return None
    try:
        key = jwt.PyJWK(dict(found), algorithm=algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if not isinstance(key, Key) or (isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS):
        return None
    return PublicKey(key, algorithms)
