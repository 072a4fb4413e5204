"""Rates over HTTP: a daemon in a process of its own, and clients that only send."""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.store.places import TEXT, Place
from benchmarks.store.rates import BATCH, CLIENTS, rate, together
from benchmarks.store.rows import Rate

ROOT = Path(__file__).parents[2]
USERS = 256
NOWHERE = "http://127.0.0.1:9"


def measure(place: Place, folder: Path, seconds: float) -> Iterator[Rate]:
    """Events a second that `python -m daemon serve` acknowledges to clients of the same machine.

    On PostgreSQL over the database of `place`, with SQLite over a file of its own.
    """
    with _daemon(place, folder) as (port, token):
        sender = _Sender(port, token)
        for what, batch in (
            (f"HTTP: events, {CLIENTS} clients", 1),
            (f"HTTP: events, {CLIENTS} clients, batches of {BATCH}", BATCH),
        ):
            together(partial(sender.send, batch), CLIENTS, 1.0)  # connections and users are made
            done, took = together(partial(sender.send, batch), CLIENTS, seconds)
            yield rate(place.name, what, done, took)


class _Sender:
    def __init__(self, port: int, token: str) -> None:
        self._token = token
        self._connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(CLIENTS)]

    def send(self, batch: int, client: int, number: int) -> int:
        """One request; how many of its events were acknowledged."""
        connection = self._connections[client]
        kind = "application/cloudevents" + ("-batch" if batch > 1 else "") + "+json"
        events = [_event((client * 7919 + number * batch + at) % USERS) for at in range(batch)]
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        connection.request("POST", "/v1/events", json.dumps(events if batch > 1 else events[0]), headers)
        answer = connection.getresponse()
        answer.read()
        return batch if answer.status == http.client.ACCEPTED else 0


def _event(user: int) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "type": "plora.example.v1",
        "source": "/bench",
        "id": secrets.token_hex(8),
        "subject": f"user-{user}",
        "data": {"text": TEXT, "label": "3"},
    }


@contextmanager
def _daemon(place: Place, folder: Path) -> Iterator[tuple[int, str]]:
    own = {
        "PLORA_DATA_DIR": str(folder / "data"),
        "PLORA_PORT": "0",
        "PLORA_TRAINER_URL": NOWHERE,
        "PLORA_DEFAULT_CONSENT": "true",
    }
    keys = folder / "keys" if place.admin is None else place.folder / "keys"
    own["PLORA_KEYS_DIR"] = str(keys)
    if place.admin is not None:
        own["PLORA_DATABASE_URL"] = place.url
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLORA_")}
    command = [sys.executable, "-m", "daemon", "serve", "--json"]
    with (folder / "daemon.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=kept | own, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(f"the daemon did not start: {(folder / 'daemon.log').read_text()[-2000:]}")
        url = json.loads(line)["url"]
        yield int(url.rpartition(":")[2]), (keys / "host.token").read_text().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
