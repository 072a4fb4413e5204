"""What is sent and how it is read: the half of the client that knows no connection, for both forms of it."""

import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from plora.codec import loads_adapter
from plora.lowrank_codec import is_low_rank, loads_low_rank

from .answers import GENERIC, Answer, Fetched, Said, answer_of
from .errors import DaemonAway, Refused

TRIES = 4
LONGEST_PAUSE_S = 5.0
AWAY = frozenset({502, 503, 504})
BUSY = 429
BATCH = 500
STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Only a `safe` one is sent again by itself: the same twice is the same once."""

    method: str
    path: str
    safe: bool = True
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


def pause_s(attempt: int, reply: Reply | None) -> float | None:
    """How long to wait before a safe call is sent again; None: it is not. With jitter, so that hosts spread out."""
    if attempt + 1 >= TRIES or (reply is not None and reply.status not in AWAY | {BUSY}):
        return None
    told = 0.0
    if reply is not None:
        after = reply.headers.get("retry-after", "0")
        told = float(after) if after.isdigit() else 0.0
    longest: float = min(LONGEST_PAUSE_S, max(told, 0.2 * 2**attempt))
    return longest * random.uniform(0.75, 1.25)


def checked(reply: Reply) -> Reply:
    """Raises Refused or DaemonAway unless it is a success or says that nothing has changed."""
    if reply.status < 300 or reply.status == 304:
        return reply
    if reply.status in AWAY:
        raise DaemonAway(reply.status)
    told = _object(reply)
    raise Refused(reply.status, str(told.get("code", "unknown")), str(told.get("detail", "no reason was given")))


def predict(questions: Sequence[tuple[str, str]], *, why: bool) -> Call:
    inputs = [{"user": user, "text": text, "why": why} for user, text in questions]
    return _posting("/v1/predict", {"inputs": inputs})


def predicted(reply: Reply) -> list[Answer]:
    return [answer_of(each) for each in _object(reply)["answers"]]


def adapter(user: str, digest: str | None) -> Call:
    headers = {} if digest is None else {"If-None-Match": f'"{digest}"'}
    return Call("GET", f"/v1/users/{quote(user, safe='')}/adapter", headers=headers)


def fetched(reply: Reply, held: Fetched | None) -> Fetched:
    """What serves; the generic model for a user who is unknown, forgotten, or without an adapter."""
    if reply.status == 304 and held is not None:
        return held
    if reply.status == 404:
        return GENERIC
    checked(reply)
    content = reply.content
    made = loads_low_rank(content) if is_low_rank(content) else loads_adapter(content)
    return Fetched(made, int(reply.headers["plora-version"]), reply.headers["etag"].strip('"'))


def events(batch: Sequence[Mapping[str, object]]) -> Call:
    return Call("POST", "/v1/events", body=_json(list(batch)), headers={"Content-Type": BATCHED})


def said(reply: Reply) -> list[Said]:
    results = _object(reply)["outcomes"]
    return [Said(each["status"] < 300, each["outcome"], each.get("code")) for each in results]


def event(source: str, user: str, kind: str, data: Mapping[str, object], id: str | None) -> dict[str, object]:
    """A CloudEvent; one without an id of the host's gets one, so that sending it again is the same event."""
    return {
        "specversion": "1.0",
        "id": id or uuid.uuid4().hex,
        "source": source,
        "type": f"plora.{kind}.v1",
        "subject": user,
        "datacontenttype": "application/json",
        "data": dict(data),
    }


def correct(token: str, label: str, text: str | None) -> Call:
    body = {"answer": token, "label": label} | ({} if text is None else {"text": text})
    return _posting("/v1/corrections", body)


def forget(user: str) -> Call:
    return Call("DELETE", f"/v1/users/{quote(user, safe='')}")


def basis(fingerprint: str) -> Call:
    return Call("GET", f"/v1/bases/{quote(fingerprint, safe='')}")


def bases() -> Call:
    return Call("GET", "/v1/bases")


def newest_basis(reply: Reply) -> str:
    """The fingerprint of the newest Basis that is ready. Raises Refused."""
    ready = [each["fingerprint"] for each in _object(reply)["bases"] if each["state"] == "ready"]
    if not ready:
        raise Refused(409, "no_basis", "no basis is ready: have an operator train one")
    return str(ready[0])


def changes(after: int | None, wait_s: float) -> Call:
    query = f"?wait_s={wait_s:g}" + ("" if after is None else f"&after={after}")
    return Call("GET", f"/v1/changes{query}", timeout_s=wait_s + 10.0)


def changed(reply: Reply) -> tuple[int, list[str], bool]:
    """The number to go on from, the digests of what serves no more, and whether anybody was moved at all."""
    told = _object(reply)
    return int(told["next"]), [each["revoked"] for each in told["changes"] if each["revoked"]], bool(told["changes"])


def _posting(path: str, body: object) -> Call:
    return Call("POST", path, body=_json(body), headers={"Content-Type": "application/json"})


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _object(reply: Reply) -> dict[str, Any]:
    try:
        found = json.loads(reply.content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
