"""A11: three times what a daemon can take is sent away politely, costs no memory and no acknowledged event."""

import asyncio
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.faults.figures import record

ROOT = Path(__file__).resolve().parents[2]
POLITE = {202, 429, 503}
GROWTH_BYTES = 100 << 20
BACK_S = 10.0
USERS = 200
CALM, STORM = 16, 1_500
"""Clients at once. The daemon takes 500 requests at once, so a storm of them is partly sent away."""


@dataclass
class Heard:
    """What clients sent, and what they were answered."""

    seconds: list[float] = field(default_factory=list)
    acked: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    impolite: int = 0  # refused without saying when to come again
    lost: int = 0  # no answer at all

    async def send(self, place: "Place", client: int, until: float, pace_s: float) -> None:
        """One event after another until then, begun every `pace_s`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        draw = random.Random(client)
        await asyncio.sleep(draw.uniform(0, pace_s))
        at = 0
        while (begun := time.monotonic()) < until:
            at += 1
            user, name = f"user-{client % USERS}", f"{client}-{begun}-{at}"
            writer.write(place.request(user, name))
            try:
                status, again = await asyncio.wait_for(_answer(reader), 30)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                self.lost += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
                continue
            self.seconds.append(time.monotonic() - begun)
            self.statuses[status] += 1
            self.impolite += status != 202 and not again
            if status == 202:
                self.acked.add(name)
                self.users.add(user)
            await asyncio.sleep(max(0.0, begun + pace_s - time.monotonic()))
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Its status, and whether it says when to come again."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1]), b"retry-after:" in head


def together(place: "Place", clients: int, seconds: float, pace_s: float = 0.0) -> Heard:
    async def all_of_them() -> Heard:
        heard, until = Heard(), time.monotonic() + seconds
        await asyncio.gather(*(heard.send(place, client, until, pace_s) for client in range(clients)))
        return heard

    return asyncio.run(all_of_them())


def p95(times: list[float]) -> float:
    return sorted(times)[int(0.95 * len(times))]


@dataclass(frozen=True)
class Place:
    """A daemon that runs."""

    pid: int
    port: int
    token: str

    def request(self, user: str, name: str) -> bytes:
        event = {
            "specversion": "1.0",
            "type": "plora.example.v1",
            "source": "/overload",
            "id": name,
            "subject": user,
            "data": {"text": f"text {name}", "label": "good"},
        }
        body = json.dumps(event).encode()
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: plora\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/cloudevents+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def stored(self, users: set[str]) -> int:
        """How many events the daemon has of these users."""
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60) as client:
            return sum(client.get(f"/v1/users/{user}").json()["counts"]["examples"] for user in users)


@contextmanager
def daemon(folder: Path) -> Iterator[Place]:
    """A real one, whose trainer is away."""
    own = {
        "PLORA_DATA_DIR": str(folder / "data"),
        "PLORA_KEYS_DIR": str(folder / "keys"),
        "PLORA_PORT": "0",
        "PLORA_TRAINER_URL": "http://127.0.0.1:1",
        "PLORA_DEFAULT_CONSENT": "true",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLORA_")}
    command = [sys.executable, "-m", "daemon", "serve", "--json"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=kept | own, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()[-2000:]
        token = (folder / "keys" / "host.token").read_text().strip()
        yield Place(process.pid, int(json.loads(line)["url"].rpartition(":")[2]), token)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(35)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def overload(folder: Path, seconds: float, calm_s: float, *, full: bool) -> None:
    seed = secrets.randbits(32)
    with daemon(folder) as place:
        first = together(place, CALM, calm_s)  # the users are made
        calm = together(place, CALM, calm_s)
        capacity = len(calm.acked) / calm_s
        before, most, ended = resident_bytes(place.pid), [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                most[0] = max(most[0], resident_bytes(place.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        storm = together(place, STORM, seconds, pace_s=STORM / (3 * capacity))
        ended.set()
        watcher.join()
        after = together(place, CALM, min(BACK_S, seconds))
        stored = place.stored(first.users | calm.users | storm.users | after.users)
    every = (first, calm, storm, after)
    acked = set().union(*(each.acked for each in every))
    statuses: Counter[int] = sum((each.statuses for each in every), Counter())
    record(
        "A11",
        seed,
        full=full,
        capacity_per_s=round(capacity, 1),
        offered_per_s=round(sum(storm.statuses.values()) / seconds, 1),
        refused=statuses[429] + statuses[503],
        other=sum(count for status, count in statuses.items() if status not in POLITE),
        growth_mb=round((most[0] - before) / 2**20, 1),
        p95_before_s=round(p95(calm.seconds), 4),
        p95_after_s=round(p95(after.seconds), 4),
        acked=len(acked),
        lost=max(0, len(acked) - stored),
    )
    assert set(statuses) <= POLITE
    assert storm.statuses[503] + storm.statuses[429]
    assert not any(each.lost or each.impolite for each in every)
    assert most[0] - before < GROWTH_BYTES
    assert stored >= len(acked)
    assert p95(after.seconds) <= max(3 * p95(calm.seconds), 0.5)


def test_three_times_too_much_is_sent_away_and_forgotten(tmp_path):
    overload(tmp_path, seconds=3.0, calm_s=0.7, full=False)


@pytest.mark.long
def test_a_minute_of_three_times_too_much_is_sent_away_and_forgotten(tmp_path):
    overload(tmp_path, seconds=60.0, calm_s=10.0, full=True)
