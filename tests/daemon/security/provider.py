"""An identity provider: real keys, real signatures, and its public keys over real HTTP."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from daemon import clock

ISSUER, AUDIENCE = "https://idp.example/realm", "plora"
SUBJECT = "maria.canary@people.example"
MADE = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class Provider:
    """Signs tokens and serves its keys. `asked` counts requests; `answer` replaces what is served."""

    def __init__(self) -> None:
        self.keys = {alg: (f"kid-{alg}", make()) for alg, make in MADE.items()}
        self.asked = 0
        self.answer: tuple[int, dict[str, str], bytes] | None = None
        self.url = ""

    def rotate(self, alg: str) -> None:
        self.keys[alg] = (f"{self.keys[alg][0]}+", MADE[alg]())

    def jwks(self) -> bytes:
        return json.dumps({"keys": [_jwk(alg, *each) for alg, each in self.keys.items()]}).encode()

    def public_pem(self, alg: str) -> bytes:
        return self.keys[alg][1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def claims(self, **changes: object) -> dict[str, object]:
        now = clock.now()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": SUBJECT,
            "nbf": int(now.timestamp()),
            "exp": int((now + timedelta(minutes=5)).timestamp()),
            "scope": "adapters:read events:write operator admin:tenants nonsense",
        } | changes
        return {name: value for name, value in claims.items() if value is not ...}

    def token(self, alg: str = "RS256", *, headers: dict[str, object] | None = None, **changes: object) -> str:
        kid, key = self.keys[alg]
        return jwt.encode(self.claims(**changes), key, algorithm=alg, headers={"kid": kid} | (headers or {}))


def raw(header: dict[str, object], claims: dict[str, object], signature: bytes) -> str:
    """A token of just these parts."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)


@contextmanager
def serving(provider: Provider) -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            status, headers, body = provider.answer or (200, {}, provider.jwks())
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    provider.url = f"http://127.0.0.1:{server.server_port}/jwks"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


def _jwk(alg: str, kid: str, key: object) -> dict[str, object]:
    described = jwt.get_algorithm_by_name(alg).to_jwk(key.public_key(), as_dict=True)
    return described | {"kid": kid, "alg": alg, "use": "sig"}
