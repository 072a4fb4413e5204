"""Simulated host applications: CloudEvents over real HTTP, and questions about texts the daemon has not seen."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from daemon.demo.crowd import Labelled, Participant
from daemon.errors import DaemonError
from plora.client import Answer, Client

SOURCE = "https://demo.plora.example/host"
BATCH = 100
ASKED_AT_ONCE = 128
PAUSE_S = 0.04
"""Between two events of one host."""


class HostRefused(DaemonError):
    """The daemon did not take what a host sent."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"the daemon refused an event: {self.code}"


class Host:
    """One host application with its token; `posted_ms` collects how long each single event took."""

    def __init__(self, url: str, token: str) -> None:
        self.posted_ms: list[float] = []
        self._daemon = Client(url, token, source=SOURCE, timeout_s=60, follow=False)
        self._looking = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def __repr__(self) -> str:
        return f"Host({len(self.posted_ms)} events)"

    def close(self) -> None:
        self._daemon.close()
        self._looking.close()

    def introduce(self, participants: Sequence[Participant]) -> None:
        """Consent of every user, and the examples of those who are there from the start, in batches."""
        events = [consent(one.id) for one in participants]
        events += [example(one.id, number, row) for one in participants for number, row in enumerate(one.told)]
        self._send(events)

    def consent(self, participants: Sequence[Participant]) -> None:
        """Only the consent of every user."""
        self._send([consent(one.id) for one in participants])

    def tell(self, user: str, number: int, row: Labelled) -> None:
        """One labelled example, as one event."""
        begun = time.perf_counter()
        self._send([example(user, number, row)])
        self.posted_ms.append(1_000 * (time.perf_counter() - begun))

    def ask(self, questions: Sequence[tuple[str, str]]) -> list[Answer]:
        """Answers to (user, text) pairs, in order."""
        answers: list[Answer] = []
        for start in range(0, len(questions), ASKED_AT_ONCE):
            answers += self._daemon.predict(questions[start : start + ASKED_AT_ONCE])
        return answers

    def user(self, user: str) -> dict[str, object]:
        """What the daemon says of a user."""
        found: dict[str, object] = self._looking.get(f"/v1/users/{user}").json()
        return found

    def _send(self, events: Sequence[Mapping[str, object]]) -> None:
        for start in range(0, len(events), BATCH):
            for said in self._daemon.send(events[start : start + BATCH]):
                if not said.accepted:
                    raise HostRefused(said.code or said.outcome)


def consent(user: str) -> dict[str, object]:
    """The CloudEvent by which a user agrees to be learned from."""
    return _event(user, "consent", "plora.consent.v1", {"granted": True})


def example(user: str, number: int, row: Labelled) -> dict[str, object]:
    """The CloudEvent of one labelled example."""
    return _event(user, f"example-{number}", "plora.example.v1", {"text": row.text, "label": row.label})


def _event(user: str, name: str, kind: str, data: Mapping[str, object]) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": f"{user}/{name}",
        "source": SOURCE,
        "type": kind,
        "subject": user,
        "datacontenttype": "application/json",
        "data": data,
    }


def arrive(hosts: Sequence[Host], participants: Sequence[Participant]) -> None:
    """All `participants` tell their examples at the same time, spread over the hosts, some 80 events a second."""

    def visit(place: int) -> None:
        pause, host = threading.Event(), hosts[place]
        for one in participants[place :: len(hosts)]:
            for number, row in enumerate(one.told):
                host.tell(one.id, number, row)
                pause.wait(PAUSE_S)

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(visit, range(len(hosts))))


class Trickle(threading.Thread):
    """A host that goes on sending single events while the daemon is busy: late examples, a few each second."""

    def __init__(self, host: Host, late: Sequence[tuple[str, int, Labelled]], pause_s: float = 0.25) -> None:
        super().__init__(daemon=True)
        self._host, self._late, self._pause_s = host, late, pause_s
        self._ended = threading.Event()

    def run(self) -> None:
        for user, number, row in self._late:
            if self._ended.wait(self._pause_s):
                return
            self._host.tell(user, number, row)

    def end(self) -> None:
        """Stop, and wait until the event under way was answered."""
        self._ended.set()
        self.join()
