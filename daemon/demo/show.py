"""The demo, step by step: start, learn the Basis, let newcomers arrive, ask about what nobody has seen."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from daemon.demo.crowd import NEWCOMERS, POPULATION, Crowd, Labelled, Participant, from_file, simulated
from daemon.demo.hosts import Host, Trickle, arrive
from daemon.demo.measures import CONTROLS, Chances, Figures, figures, label_prior
from daemon.demo.process import ROOT, Running, daemon
from daemon.demo.report import Findings, UserOutcome, show, write
from daemon.errors import DaemonError

FOLDER = ROOT / "var" / "demo"
NOBODY = "nobody-in-particular"
HOSTS = 4
KEPT_BACK = 3
"""Examples of each population user that arrive one by one while the daemon is busy."""

Json = dict[str, Any]


class DemoFailed(DaemonError):
    """A step of the demo did not come to its end."""

    def __init__(self, step: str, what: str) -> None:
        super().__init__(step, what)
        self.step, self.what = step, what

    def __str__(self) -> str:
        return f"{self.step}: {self.what}; the daemon's log is {FOLDER / 'daemon.log'}"


def run(data: str | None, console: Console) -> Path:
    """The whole demo on simulated people, or on the rows of the file `data`; the path of its findings."""
    crowd = from_file(Path(data)) if data else simulated()
    rows = sum(len(one.told) for one in crowd.participants)
    console.print(f"{crowd.source}: {len(crowd.participants)} users, {rows} labelled events")
    seconds: dict[str, float] = {}
    begun = time.monotonic()
    few = str(len(crowd.of(NEWCOMERS)[0].told))
    choices = {
        "PLORA_TRIGGER_MIN_FRESH": few,
        "PLORA_TRIGGER_MIN_TOTAL": few,
        "PLORA_MAX_TOKENS": "64",
        "PLORA_FIT_MAX_USERS": "16",  # on a CPU larger cohorts gain nothing, and smaller ones answer sooner
    }
    with daemon(FOLDER, choices, lambda what: _say(console, "starting the daemon and Ray", what)) as running:
        _lap(console, seconds, "start", begun)
        hosts = [Host(running.url, running.host_token) for _ in range(HOSTS)]
        _learn_basis(console, running, hosts[0], crowd, seconds)
        _newcomers(console, running, hosts, crowd, seconds)
        begun = time.monotonic()
        outcomes = _outcomes(hosts[0], crowd)
        _lap(console, seconds, "ask", begun)
        posted = [ms for host in hosts for ms in host.posted_ms]
        for host in hosts:
            host.close()
    findings = Findings(crowd.source, crowd.ceiling, outcomes, posted, seconds)
    path = FOLDER / "demo.json"
    write(findings, path)
    show(findings, running.url, console)
    return path


def _learn_basis(console: Console, running: Running, host: Host, crowd: Crowd, seconds: dict[str, float]) -> None:
    """The population's events, a Basis trained on them, and an adapter for each of them."""
    begun = time.monotonic()
    population = crowd.of(POPULATION)
    early = [Participant(p.id, p.stage, p.told[:-KEPT_BACK], p.unseen) for p in population]
    late = [(p.id, len(p.told) - KEPT_BACK + i, p.told[i - KEPT_BACK]) for i in range(KEPT_BACK) for p in population]
    host.introduce(early)
    trickle = Trickle(host, late)
    trickle.start()
    try:
        _train_basis(console, running)
        _lap(console, seconds, "basis", begun)
        begun = time.monotonic()
        _settled(console, running, "fitting the population's adapters")
    finally:
        trickle.end()
    _lap(console, seconds, "population fits", begun)


def _train_basis(console: Console, running: Running) -> None:
    headers = {"Authorization": f"Bearer {running.operator_token}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=60) as operator:
        asked = operator.post("/v1/bases", json={"name": "demo"})
        if asked.status_code != 202:
            raise DemoFailed("training the basis", f"the daemon answered {asked.status_code}")
        begun = time.monotonic()
        while True:
            basis = operator.get("/v1/bases").json()["bases"][0]
            if basis["state"] == "ready":
                return
            if basis["state"] == "failed":
                raise DemoFailed("training the basis", str(basis["error_code"]))
            _say(console, "training the basis on the population", f"{time.monotonic() - begun:.0f} s")
            time.sleep(1)


def _newcomers(
    console: Console, running: Running, hosts: Sequence[Host], crowd: Crowd, seconds: dict[str, float]
) -> None:
    """Everybody else arrives at once, with a few examples each."""
    begun = time.monotonic()
    newcomers = crowd.of(NEWCOMERS)
    hosts[0].consent(newcomers)
    arrive(hosts, newcomers)
    _lap(console, seconds, "arrival", begun)
    begun = time.monotonic()
    _settled(console, running, "fitting the newcomers' adapters")
    _lap(console, seconds, "newcomer fits", begun)


def _settled(console: Console, running: Running, what: str) -> None:
    """Wait until no run is queued or running, and none is about to be."""
    quiet = 0
    headers = {"Authorization": f"Bearer {running.operator_token}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=60) as operator:
        while quiet < 3:
            open_runs = sum(
                len(operator.get("/v1/runs", params={"state": state, "limit": 500}).json()["runs"])
                for state in ("queued", "running")
            )
            _say(console, what, f"{open_runs} open runs")
            quiet = quiet + 1 if open_runs == 0 else 0
            time.sleep(0.5)


def _outcomes(host: Host, crowd: Crowd) -> list[UserOutcome]:
    """Ask about every unseen example as its user, as nobody, and as somebody else."""
    people = list(crowd.participants)
    views = [host.user(one.id) for one in people]
    served = [one.id for one, view in zip(people, views, strict=True) if view["serving"] is not None]
    wrong = [_somebody_else(one.id, served, place) for place, one in enumerate(people)]
    personal = _chances(host, [(one.id, one.unseen) for one in people])
    stranger = _chances(host, [(other, one.unseen) for one, other in zip(people, wrong, strict=True)])
    generic = _chances(host, [(NOBODY, one.unseen) for one in people])
    on_told = _chances(host, [(NOBODY, one.told) for one in people])
    found = []
    for at, one in enumerate(people):
        answers = (generic[at], label_prior(generic[at], one.told, on_told[at]), stranger[at], personal[at])
        controls = {name: figures(one.unseen, chances) for name, chances in zip(CONTROLS, answers, strict=True)}
        found.append(_outcome(one, views[at], controls, wrong[at] != NOBODY))
    return found


def _somebody_else(user: str, served: Sequence[str], place: int) -> str:
    """Another user with an adapter, not the same one for all."""
    others = [other for other in served if other != user]
    return others[place % len(others)] if others else NOBODY


def _chances(host: Host, asked: Sequence[tuple[str, Sequence[Labelled]]]) -> list[list[Chances]]:
    """Label probabilities for each user's rows, all asked in as few requests as they fit in."""
    answers = host.ask([(user, row.text) for user, rows in asked for row in rows])
    chances = iter(answer.probabilities for answer in answers)
    return [[next(chances) for _ in rows] for _, rows in asked]


def _outcome(one: Participant, view: Json, controls: dict[str, Figures], wrong_counts: bool) -> UserOutcome:
    versions: list[Json] = view["versions"]
    current = [version for version in versions if version["version"] == view["serving"]]
    last_event = view["counts"]["last_event_at"]
    waited = None
    if current and last_event:
        waited = (datetime.fromisoformat(current[0]["created_at"]) - datetime.fromisoformat(last_event)).total_seconds()
    codes = [version["code"] for version in versions] or [str(run["error_code"]) for run in view["runs"]] or ["no_run"]
    return UserOutcome(
        stage=one.stage,
        told=len(one.told),
        controls=controls,
        promoted=bool(current),
        codes=tuple(codes[-1:] if not current else [current[0]["code"]]),
        adapter_bytes=max((int(version["size_bytes"]) for version in versions), default=0),
        event_to_adapter_s=waited,
        wrong_user_counts=wrong_counts,
    )


def _say(console: Console, step: str, what: str) -> None:
    """One line that moves on a terminal; in a log only steps are printed."""
    if console.is_terminal:
        console.print(f"  {step}: {what}".ljust(72), end="\r")


def _lap(console: Console, seconds: dict[str, float], step: str, begun: float) -> None:
    seconds[step] = round(time.monotonic() - begun, 1)
    console.print(f"  {step}: {seconds[step]:.1f} s".ljust(72))
