"""A real Prometheus scrapes a real daemon under load: whatever boards and rules ask of a daemon, it exports."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from daemon import clock
from helm.generate import rules
from tests.dashboards.known import known, of_the_daemon
from tests.dashboards.pictures import RULES, boards
from tests.dashboards.promql import filled, look
from tests.dashboards.server import Prometheus, promtool, running
from tests.faults.killing import until
from tests.faults.real_daemon import LIMIT_S, Daemon, People

pytestmark = pytest.mark.long
NEWCOMERS = 12

CONFIG = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: plora
    static_configs: [{targets: ["127.0.0.1:%d"], labels: {namespace: plora}}]
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Daemon]]:
    """A daemon that has recorded, trained, judged and served, and the Prometheus that watched it."""
    folder = tmp_path_factory.mktemp("live")
    daemon = Daemon(folder, {"PLORA_TRAINER": "in-process", "PLORA_TRIGGER_COOLDOWN_S": "0"})
    daemon.start()
    try:
        with running(folder, CONFIG % (RULES, daemon.port)) as server:
            people = People(daemon)
            people.make_basis()
            chosen = people.newcomers(NEWCOMERS)
            assert until(lambda: people.have_versions(chosen), LIMIT_S)
            _serve(daemon, chosen[0].id)
            assert until(lambda: _sum(server, 'plora_predictions_total{kind!="failed"}') > 0, LIMIT_S)
            yield server, daemon
    finally:
        daemon.end()


def _serve(daemon: Daemon, user: str) -> None:
    """What a host asks for."""
    headers = {"Authorization": f"Bearer {daemon.token('host')}"}
    with httpx.Client(base_url=daemon.url, headers=headers, timeout=60) as host:
        host.get(f"/v1/users/{user}/adapter")
        host.post("/v1/predict", json={"inputs": [{"user": user, "text": "a tiny lamp"}]})
        host.get("/v1/nothing")


def _sum(server: Prometheus, expr: str) -> float:
    found = server.at(f"sum({expr})", clock.now().timestamp())
    return float(found[0]["value"][1]) if found else 0.0


def selectors() -> set[str]:
    """Of every board and rule, those that ask a daemon."""
    there, asked = known(), set()
    expressions = [
        filled(each["expr"])
        for board in boards().values()
        for panel in board["panels"]
        for each in panel.get("targets", [])
    ]
    expressions += [rule["expr"] for group in rules.groups() for rule in group["rules"]]
    for expr in expressions:
        asked |= look(expr, there).selectors
    exported = of_the_daemon()
    return {each for each in asked if each.partition("{")[0] in exported and not each.startswith("plora_ingest")}


def test_every_selector_finds_series_of_a_running_daemon(seen):
    server, _ = seen
    now = clock.now().timestamp()
    missing = [each for each in sorted(selectors()) if not server.at(f"count({each})", now) and not _rare(each)]
    assert missing == []


def _rare(selector: str) -> bool:
    """What has a series only once it happened: what is bounded by code, not by a list."""
    rare = ('code!="ok"', 'outcome="failed"', 'status=~"3', 'status=~"4', 'status=~"5', "plora_storage_errors_total")
    return any(each in selector for each in rare)


def test_the_load_is_on_the_boards(seen):
    server, _ = seen
    assert _sum(server, 'plora_events_received_total{outcome="stored"}') >= NEWCOMERS
    assert _sum(server, 'plora_runs_total{outcome="succeeded"}') >= NEWCOMERS
    assert _sum(server, "plora_event_to_adapter_seconds_count") >= NEWCOMERS
    assert _sum(server, 'plora_http_requests_total{route="/v1/events",status="202"}') > 0


def test_no_rule_fails_and_a_healthy_daemon_is_silent(seen):
    server, _ = seen
    found = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
    assert len(found) == sum(len(group["rules"]) for group in rules.groups())
    assert [rule["name"] for rule in found if rule["health"] == "err"] == []
    assert [rule["name"] for rule in found if rule.get("state") == "firing"] == []


def test_promtool_has_nothing_to_say_of_the_page(seen, tmp_path: Path):
    _, daemon = seen
    page = tmp_path / "metrics.txt"
    page.write_text(httpx.get(f"{daemon.url}/metrics", timeout=30).text)
    done = promtool("check", "metrics", stdin=page)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
