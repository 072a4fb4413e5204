"""Client: a plora daemon over HTTP, for hosts that wait in threads."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Self

import httpx

from plora.adapter import Adapter
from plora.basis import Basis
from plora.codec import loads_basis
from plora.lowrank import LowRankAdapter

from . import requests
from .answers import GENERIC, Answer, Fetched, Said
from .errors import ClientError, DaemonAway
from .held import Held
from .requests import Call, Reply

FETCHES = 8


class Client:
    """One daemon as a host sees it. Thread-safe; use it in a `with`, which ends what follows revocations.

    `source` names the host in its events. With `fail_open` a user whose adapter cannot be had is answered by the
    generic model (None); else DaemonAway or Stale is raised. Adapters are held for `keep` users, and used without
    asking only while revocations were heard of in the last `stale_s` seconds.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        source: str = "/plora-client",
        fail_open: bool = True,
        keep: int = 10_000,
        stale_s: float = 30.0,
        timeout_s: float = 30.0,
        follow: bool = True,
    ) -> None:
        self.source, self.fail_open = source, fail_open
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_s, trust_env=False
        )
        self._held = Held(keep, stale_s)
        self._ended = threading.Event()
        self._poll_s = min(8.0, stale_s / 2)
        self._follower = threading.Thread(target=self._follow, name="plora-changes", daemon=True)
        if follow:
            self._follower.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({str(self._http.base_url)!r}, {len(self._held)} adapters held)"

    def close(self) -> None:
        """End the connections and what follows revocations."""
        self._ended.set()
        self._http.close()

    def tell(self, user: str, text: str, label: str, *, id: str | None = None) -> Said:
        """One example of the user's. With an `id` of the host's own, telling it twice is telling it once."""
        return self.send([requests.event(self.source, user, "example", {"text": text, "label": label}, id)])[0]

    def consent(self, user: str, granted: bool = True) -> Said:
        """Whether the user may be learned from."""
        return self.send([requests.event(self.source, user, "consent", {"granted": granted}, None)])[0]

    def outcome(self, user: str, answer: str, value: float) -> Said:
        """What became of an answer, from 0 to 1: for the version that gave it."""
        return self.send([requests.event(self.source, user, "outcome", {"answer": answer, "value": value}, None)])[0]

    def send(self, events: Sequence[Mapping[str, object]]) -> list[Said]:
        """CloudEvents of the host's own making; what became of each."""
        said: list[Said] = []
        for start in range(0, len(events), requests.BATCH):
            call = requests.events(events[start : start + requests.BATCH])
            said += requests.said(self._ask(call))
        return said

    def predict(self, questions: Sequence[tuple[str, str]], *, why: bool = False) -> list[Answer]:
        """An answer to each (user, text), in order; with `why`, what moved it. Raises Refused or DaemonAway."""
        return requests.predicted(self._ask(requests.predict(questions, why=why))) if questions else []

    def correct(self, answer: str, label: str, *, text: str | None = None) -> None:
        """The right label of an answer, by its token; the text too unless the answer was held."""
        self._ask(requests.correct(answer, label, text))

    def forget(self, user: str) -> None:
        """Have everything of the user destroyed. Raises Refused where there is no such user."""
        self._ask(requests.forget(user))

    def basis(self) -> Basis:
        """The newest Basis that is ready. Raises Refused where there is none."""
        return loads_basis(self._ask(requests.basis(requests.newest_basis(self._ask(requests.bases())))).content)

    def adapter(self, user: str) -> Adapter | LowRankAdapter | None:
        """What serves the user, for `live.use`; None is the generic model."""
        return self.fetch(user).adapter

    def adapters(self, users: Sequence[str | None]) -> list[Adapter | LowRankAdapter | None]:
        """One for each user, in order; what is not held is fetched, some at a time."""
        names = list(dict.fromkeys(user for user in users if user is not None))
        with ThreadPoolExecutor(FETCHES) as pool:
            found = dict(zip(names, pool.map(self.adapter, names), strict=True))
        return [None if user is None else found[user] for user in users]

    def fetch(self, user: str) -> Fetched:
        """What serves the user and its version. Raises DaemonAway or Stale unless the client fails open."""
        held = self._held.get(user)
        if held is not None and self._held.fresh:
            return held
        try:
            found = requests.fetched(self._send(requests.adapter(user, held.digest if held else None)), held)
        except DaemonAway:
            if self.fail_open:
                return GENERIC
            if held is not None:
                raise self._held.too_old() from None
            raise
        self._held.put(user, found)
        return found

    def _ask(self, call: Call) -> Reply:
        return requests.checked(self._send(call))

    def _send(self, call: Call) -> Reply:
        """Raises DaemonAway where nothing answers."""
        attempt = 0
        while True:
            reply = self._once(call)
            pause = requests.pause_s(attempt, reply) if call.safe else None
            if pause is None:
                if reply is None or reply.status in requests.AWAY:
                    raise DaemonAway(None if reply is None else reply.status)
                return reply
            attempt += 1
            sleep(pause)

    def _once(self, call: Call) -> Reply | None:
        timeout = self._http.timeout if call.timeout_s is None else call.timeout_s
        try:
            found = self._http.request(
                call.method, call.path, content=call.body, headers=dict(call.headers), timeout=timeout
            )
        except httpx.TransportError:
            return None
        return Reply(found.status_code, found.headers, found.content)

    def _follow(self) -> None:
        """Hear of revocations until the end, and fetch again what was in use."""
        after: int | None = None
        while not self._ended.is_set():
            try:
                reply = self._once(requests.changes(after, self._poll_s if after is not None else 0.0))
                if reply is None:
                    raise DaemonAway
                after, revoked, moved = requests.changed(requests.checked(reply))
                gone = self._held.hear(revoked, moved=moved)
                for user in gone[-FETCHES:]:
                    self.fetch(user)
            except (ClientError, RuntimeError, KeyError, ValueError):  # RuntimeError: closed meanwhile
                self._ended.wait(1.0)
