"""The made-up installation: two daemons, one Ray head, two GPU nodes, and when its trainers were gone."""

from tests.dashboards.openmetrics import At, History

HOURS = 6.0
BEGINS, ENDS, DRAINED = 2.5, 3.17, 3.9
"""Hours since the start: the trainers go, come back, and have caught up."""

DAEMONS = (
    {"job": "plora", "namespace": "plora", "instance": "plora-0:8470"},
    {"job": "plora", "namespace": "plora", "instance": "plora-1:8470"},
)
INGEST = {"job": "plora-ingest", "namespace": "plora", "instance": "plora-ingest-0:8471"}
RAY = {"job": "ray", "namespace": "plora", "SessionName": "session", "Version": "2.60.0"}
NODES = ("192.0.2.11", "192.0.2.12")
EVENTS_A_SECOND, USERS_A_SECOND = 24.0, 2.6


def during(hour: float) -> bool:
    """Whether the trainers are gone."""
    return BEGINS <= hour < ENDS


def backlog(hour: float) -> float:
    """Runs that wait: they pile up, then the trainers catch up."""
    piled = USERS_A_SECOND * 3600 * (ENDS - BEGINS)
    if during(hour):
        return 6 + piled * (hour - BEGINS) / (ENDS - BEGINS)
    if ENDS <= hour < DRAINED:
        return 6 + piled * (DRAINED - hour) / (DRAINED - ENDS)
    return 6.0


def fitting(hour: float) -> float:
    """Users fitted each second."""
    if during(hour):
        return 0.0
    return USERS_A_SECOND * (1 + (ENDS - BEGINS) / (DRAINED - ENDS)) if ENDS <= hour < DRAINED else USERS_A_SECOND


def waited(hour: float) -> float:
    """Seconds from event to adapter, the middle one."""
    return 7.0 + backlog(hour) / (2 * USERS_A_SECOND) if hour >= ENDS else 7.0


def quiet(_: float) -> float:
    return 0.0


def steady(value: float) -> At:
    """The same at all times."""
    return lambda _: value


def when(there: float, otherwise: float = 0.0) -> At:
    """One value during the incident, another at other times."""
    return lambda hour: there if during(hour) else otherwise


def stamp(history: History, *, stands: bool) -> At:
    """A time that is renewed, or stands still during the incident."""
    start = history.end - history.hours * 3600
    return lambda hour: start + 3600 * (BEGINS if stands and during(hour) else hour) - 12


def half(rate: At) -> At:
    return lambda hour: rate(hour) / len(DAEMONS)
