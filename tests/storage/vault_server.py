"""A local server that speaks as much of Vault's transit engine as a key provider uses.

Followed from Vault's API documentation of transit and the answers it describes:
  * POST keys/NAME makes version 1; again is harmless. GET keys/NAME: 404 for no such key. POST keys/NAME/rotate.
  * POST hmac/NAME[/ALGORITHM] with `key_version`: 0 is the newest; another than the newest is refused below
    min_encryption_version, and one that does not exist is refused (400). Answer: vault:vN:BASE64.
  * POST keys/NAME/config: no minimum above the newest version, min_encryption_version not below min_decryption_version.
  * POST keys/NAME/trim: min_available_version can not sink, needs both minimums set, and is at most the lesser of them.
  * A wrong token is 403; a sealed server answers 503 to everything.
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MINIMUMS = ("min_decryption_version", "min_encryption_version")


class Refusal(Exception):
    def __init__(self, status: int, sentence: str = "") -> None:
        super().__init__(status, sentence)
        self.status, self.sentence = status, sentence


class Vault:
    """The engine at /v1/transit; `address` once started."""

    def __init__(self) -> None:
        self.token, self.sealed, self.asked = secrets.token_hex(8), False, 0
        self.keys: dict[str, dict] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, token: str | None, body: dict) -> dict | None:
        self.asked += 1
        if self.sealed:
            raise Refusal(503, "Vault is sealed")
        if token != self.token:
            raise Refusal(403, "permission denied")
        match path.removeprefix("/v1/transit/").split("/"):
            case ["keys", name] if method == "GET":
                return {"data": self._told(self._key(name, 404))}
            case ["keys", name]:
                fresh = {"versions": {1: secrets.token_bytes(32)}, "latest": 1, "available": 0}
                self.keys.setdefault(name, fresh | {"min_decryption_version": 1, "min_encryption_version": 0})
                return None
            case ["keys", name, "rotate"]:
                key = self._key(name)
                key["latest"] += 1
                key["versions"][key["latest"]] = secrets.token_bytes(32)
                return None
            case ["keys", name, "config"]:
                return self._configure(self._key(name), body)
            case ["keys", name, "trim"]:
                return self._trim(self._key(name), int(body["min_available_version"]))
            case ["hmac", name, *_]:
                return self._hmac(self._key(name), int(body.get("key_version") or 0), body["input"])
        raise Refusal(404)

    def _key(self, name: str, status: int = 400) -> dict:
        if name not in self.keys:
            raise Refusal(status, "encryption key not found")
        return self.keys[name]

    def _told(self, key: dict) -> dict:
        versions = {str(number): 0 for number in key["versions"] if number >= key["min_decryption_version"]}
        minimums = {name: key[name] for name in MINIMUMS}
        told = {"keys": versions, "latest_version": key["latest"], "type": "aes256-gcm96"}
        return told | minimums | {"min_available_version": key["available"]}

    def _configure(self, key: dict, body: dict) -> None:
        wanted = {name: int(body.get(name, key[name])) for name in MINIMUMS}
        decrypt, encrypt = (wanted[name] for name in MINIMUMS)
        if max(decrypt, encrypt) > key["latest"] or (0 < encrypt < decrypt) or decrypt < key["available"]:
            raise Refusal(400, "cannot set these minimum versions")
        key.update(wanted)

    def _trim(self, key: dict, lowest: int) -> None:
        if lowest < max(1, key["available"]) or lowest > min(key[name] for name in MINIMUMS):
            raise Refusal(400, "minimum available version cannot be set so")
        key["available"] = lowest
        key["versions"] = {number: secret for number, secret in key["versions"].items() if number >= lowest}

    def _hmac(self, key: dict, version: int, text: str) -> dict:
        version = version or key["latest"]
        if version != key["latest"] and version < key["min_encryption_version"]:
            raise Refusal(400, "version is too old (disallowed by policy)")
        if version not in key["versions"]:
            raise Refusal(400, "key version does not exist")
        code = hmac.digest(key["versions"][version], base64.b64decode(text), hashlib.sha256)
        return {"data": {"hmac": f"vault:v{version}:{base64.b64encode(code).decode()}"}}

    def _handler(vault) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                try:
                    status, said = 200, vault.answer(self.command, self.path, self.headers.get("X-Vault-Token"), body)
                except Refusal as refusal:
                    status, said = refusal.status, {"errors": [refusal.sentence] if refusal.sentence else []}
                content = b"" if said is None else json.dumps(said).encode()
                self.send_response(204 if said is None else status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler
