"""Six made-up hours in a real Prometheus: no panel is empty, and whoever looks at the boards sees what happened."""

from collections.abc import Iterator

import pytest

from tests.dashboards import known, page
from tests.dashboards.installation import HOURS
from tests.dashboards.pictures import Told, boards, told

NAMES = sorted(boards())
HOUR_S = 3600
MAY_BE_EMPTY: dict[str, set[str]] = {}

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with told(tmp_path_factory.mktemp("prometheus")) as what:
        yield what


@pytest.mark.parametrize("name", NAMES)
def test_no_panel_is_empty(history, name):
    drawn = page.draw(boards()[name], history.server, history.end)
    assert set(drawn.empty) <= MAY_BE_EMPTY.get(name, set())


@pytest.mark.parametrize("name", NAMES)
def test_every_expression_of_a_panel_finds_something(history, name):
    start, silent = history.end - HOURS * HOUR_S, []
    for panel in boards()[name]["panels"]:
        for target in panel.get("targets", []):
            if not history.server.over(page.filled(target["expr"]), start, history.end, 300):
                silent.append(f"{panel['title']}: {target['legendFormat']}")
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_prometheus_reads_every_expression_as_we_do(history, name):
    for panel in boards()[name]["panels"]:
        for target in panel.get("targets", []):
            assert history.server.ask("format_query", query=page.filled(target["expr"]))


def test_the_incident_is_seen(history):
    def at(panel: str, when: float) -> float:
        board = boards()["plora-overview"]
        chosen = next(each for each in board["panels"] if each["title"] == panel)
        return page.now_of(chosen, history.server, when)[0][1]

    assert at("Alerts that fire", history.during) == 4
    assert at("Alerts that fire", history.end) == 0
    assert at("Trainer", history.during) == 0
    assert at("Trainer", history.end) == 1
    assert at("Runs that fail", history.during) > 0.2
    assert at("Runs that fail", history.end) < 0.01
    assert at("Oldest stage of the heartbeat", history.during) > 900
    assert at("Oldest stage of the heartbeat", history.end) < 60
    assert at("Events not stored", history.during) == 0, "events are recorded while nobody fits"


def test_what_burnt_is_seen_and_what_did_not_is_not(history):
    def burn(slo: str) -> float:
        expr = f'plora:slo_burn:ratio_rate1h{{slo="{slo}"}}'
        series = history.server.over(expr, history.end - HOURS * HOUR_S, history.end, 60)
        return max(float(value) for each in series for _, value in each["values"])

    assert burn("adapters") > 14.4, "predictions failed for forty minutes"
    assert burn("freshness") > 1
    assert burn("ingest") == 0


def test_an_end_of_a_histogram_is_no_bound_of_its_buckets(history):
    """A quantile that sits on a bound says only that the buckets do not fit."""
    asked = str(boards())
    for metric, bounds in known.bounds().items():
        if f"{metric}_bucket" not in asked:
            continue
        expr = f"histogram_quantile(0.95, sum by (le) (rate({metric}_bucket[1h])))"
        found = history.server.at(expr, history.end)
        assert found, metric
        assert float(found[0]["value"][1]) not in bounds, metric
        total = float(history.server.at(f"sum({metric}_count)", history.end)[0]["value"][1])
        within = float(history.server.at(f'sum({metric}_bucket{{le="{bounds[-1]!r}"}})', history.end)[0]["value"][1])
        assert within / total > 0.99, metric


def test_a_board_can_be_photographed(history, tmp_path):
    board = boards()["plora-overview"]
    page.photograph(page.draw(board, history.server, history.end), tmp_path / "overview.png", page.height_of(board))
    assert (tmp_path / "overview.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "overview.png").stat().st_size > 50_000
