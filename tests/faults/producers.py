"""Hosts that send events over HTTP, send again what was not acknowledged, and remember what was."""

import http.client
import json
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.adapters import LABELS

BATCH = "application/cloudevents-batch+json"
MOST = 8
AGAIN = 0.1
TIMEOUT_S = 5.0
PAUSE_S = 0.02


@dataclass
class Book:
    """What was acknowledged: of each user the contents, by event id."""

    acked: dict[str, dict[str, str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    retries: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        with self.guard:
            return sum(map(len, self.acked.values()))


class Producer(threading.Thread):
    """Sends `total` events of its own users, one batch after another, to whichever of `ports` answers."""

    def __init__(self, book: Book, ports: Sequence[int], token: str, *, name: str, total: int, seed: int) -> None:
        super().__init__(daemon=True, name=name)
        self._book, self._ports, self._token, self._total = book, tuple(ports), token, total
        self._draw = random.Random(f"{seed}:{name}")
        self._stopping = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self.pace_s = 0.0

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        sent, earlier = 0, []
        while sent < self._total and not self._stopping.is_set():
            count = min(self._draw.randint(1, MOST), self._total - sent)
            batch = [self._event(sent + at) for at in range(count)]
            if not self._deliver(batch, may_be_new=True):
                return
            sent += count
            earlier.append(batch)
            if self._draw.random() < AGAIN and not self._deliver(self._draw.choice(earlier[-50:]), may_be_new=False):
                return
            self._stopping.wait(self.pace_s)

    def _event(self, number: int) -> dict[str, object]:
        user = f"{self.name}-{self._draw.randrange(12)}"
        return {
            "specversion": "1.0",
            "type": "plora.example.v1",
            "source": f"/{self.name}",
            "id": f"{number}",
            "subject": user,
            "data": {"text": f"{self.name} said {number}", "label": self._draw.choice(LABELS)},
        }

    def _deliver(self, batch: Sequence[dict[str, object]], *, may_be_new: bool) -> bool:
        body = json.dumps(batch)
        while not self._stopping.is_set():
            outcomes = self._post(body)
            if outcomes is None:
                self._book.retries += 1
                self._stopping.wait(PAUSE_S)
                continue
            expected = {"stored", "duplicate"} if may_be_new else {"duplicate"}
            if not set(outcomes) <= expected or len(outcomes) != len(batch):
                self._book.refused.append(f"{sorted(set(outcomes))}, new: {may_be_new}")
            with self._book.guard:
                for event in batch:
                    told = json.dumps(event["data"], sort_keys=True)
                    self._book.acked.setdefault(str(event["subject"]), {})[str(event["id"])] = told
            return True
        return False

    def _post(self, body: str) -> list[str] | None:
        """The outcomes; None when this has to be sent again."""
        port = self._draw.choice(self._ports)
        try:
            if self._connection is None or self._connection.port != port:
                self._drop()
                self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": BATCH}
            self._connection.request("POST", "/v1/events", body, headers)
            response = self._connection.getresponse()
            answer = response.read()
            if response.status in {429, 503, 507}:
                return None
            if response.status not in {202, 207}:
                self._book.refused.append(f"status {response.status}")
                return None
            return [each["outcome"] for each in json.loads(answer)["outcomes"]]
        except (OSError, http.client.HTTPException, ValueError):
            self._drop()
            return None

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
