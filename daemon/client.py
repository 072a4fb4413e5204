"""How the command line asks the running daemon: HTTP, with the operator's token from the key directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

import httpx

from daemon.errors import DaemonError
from daemon.settings import Settings
from storage import KeyRingMissing
from storage.keyfiles import read_secret

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a command sends: a method, the parts of the path after /v1, query and body."""

    method: str
    path: tuple[str, ...]
    query: dict[str, str | int] | None = None
    body: dict[str, object] | None = None


class DaemonAway(DaemonError):
    """Nothing answers where the daemon should be."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        return f"no daemon answers at {self.url}: start one by `python -m daemon serve`, or set PLORA_URL"


class NoToken(DaemonAway):
    """No daemon has ever started on this key directory, or it is another one."""

    def __str__(self) -> str:
        return (
            f"{self.url} has no operator.token: start a daemon by `python -m daemon serve`, or say by PLORA_KEYS_DIR "
            "where the keys of the running one are"
        )


class Refused(DaemonError):
    """The daemon answered with a problem."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(status, code, detail)
        self.status, self.code, self.detail = status, code, detail

    def __str__(self) -> str:
        return f"{self.detail} ({self.status} {self.code})"


class Client:
    """A connection to the daemon that `settings` describe. Use it in a `with`."""

    def __init__(self, settings: Settings) -> None:
        try:
            secret = read_secret(settings.keys_path / "operator.token").decode("ascii").strip()
        except KeyRingMissing:
            raise NoToken(str(settings.keys_path)) from None
        headers = {"Authorization": f"Bearer {secret}"}
        self._url = settings.base_url
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(
        self,
        method: str,
        path: Sequence[str],
        *,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> dict[str, object]:
        """The answer's JSON object. Raises DaemonAway or Refused."""
        target = "/v1/" + "/".join(quote(each, safe="") for each in path)
        try:
            response = self._http.request(method, target, params=query, json=body)
        except httpx.TransportError:
            raise DaemonAway(self._url) from None
        answer = _object(response)
        if not response.is_success:
            raise Refused(
                response.status_code, str(answer.get("code", "?")), str(answer.get("detail", "no reason given"))
            )
        return answer


def _object(response: httpx.Response) -> dict[str, object]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
