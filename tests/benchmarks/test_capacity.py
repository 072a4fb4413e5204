"""The capacity page says what the measured unit costs say, and the arithmetic follows its inputs."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.capacity import arithmetic
from benchmarks.capacity.__main__ import main
from benchmarks.capacity.arithmetic import Demand

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def costs():
    return arithmetic.read(DOCS)


def value(demand: Demand, costs: arithmetic.Costs, part: str, what: str) -> float:
    return next(each.value for each in arithmetic.lines(demand, costs) if (each.part, each.what) == (part, what))


def test_the_page_holds_the_lines_that_the_files_on_record_give():
    assert main(["--check", str(DOCS / "operations.md")]) == 0


def test_a_page_with_another_figure_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text((DOCS / "operations.md").read_text().replace("1,000,000 users x 4", "1,000,000 users x 5"))
    assert main(["--check", str(page)]) == 1


def test_the_peak_follows_from_users_events_and_fresh(costs):
    runs = value(Demand(users=864_000, events_per_day=8, peak=2, fresh=4), costs, "runs", "peak")
    assert runs == pytest.approx(864_000 * 8 / 86_400 * 2 / 4)


def test_more_gpus_fit_everybody_sooner_and_slower_fits_take_more_cores(costs):
    one = value(Demand(gpus=1), costs, "8 B decoder", "everybody again on 1 H200")
    eight = value(Demand(gpus=8), costs, "8 B decoder", "everybody again on 8 H200")
    assert one == pytest.approx(8 * eight)
    slower = replace(costs, fit_s=2 * costs.fit_s)
    cores = [value(Demand(), each, "runs", "CPU cores for MiniLM") for each in (costs, slower)]
    assert cores[1] > cores[0]


def test_no_line_plans_for_more_than_half_of_a_measured_rate(costs):
    daemons = value(Demand(users=10_000_000), costs, "events", "daemons, events one by one")
    peak = value(Demand(users=10_000_000), costs, "events", "peak")
    assert daemons * costs.http_single * arithmetic.BUSY >= peak
