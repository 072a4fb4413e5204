"""Newcomers as hosts see them: they tell their examples one by one, and are watched until they have been judged."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from daemon.demo.crowd import Participant
from daemon.demo.hosts import PAUSE_S, Host
from daemon.demo.process import Running

LOOK_S = 0.1
GIVEN_UP_S = 120.0
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Visit:
    """`seconds` from the answer to the last event until a version was seen, or None if none was in time."""

    seconds: float | None
    promoted: bool


def visit(running: Running, one: Participant) -> Visit:
    """Consent, one event after another, and then looks at the user until there is a version."""
    host, pause = Host(running.url, running.host_token), threading.Event()
    try:
        host.consent([one])
        for number, row in enumerate(one.told):
            pause.wait(PAUSE_S)
            host.tell(one.id, number, row)
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < GIVEN_UP_S:
            seen = host.user(one.id)
            if seen["versions"]:
                return Visit(waited, bool(seen["serving"]))
            pause.wait(LOOK_S)
        return Visit(None, promoted=False)
    finally:
        host.close()


def one_by_one(running: Running, whom: Sequence[Participant]) -> list[Visit]:
    """Each comes when the one before has been judged: the daemon has nothing else to do."""
    return [visit(running, one) for one in whom]


def every(running: Running, whom: Sequence[Participant], pause_s: float) -> list[Visit]:
    """One comes every `pause_s`, whatever has become of those before."""
    pause, begun, coming = threading.Event(), time.monotonic(), list[Future[Visit]]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, one in enumerate(whom):
            pause.wait(max(0.0, begun + number * pause_s - time.monotonic()))
            coming.append(pool.submit(visit, running, one))
        return [each.result() for each in coming]
