"""What the freshness benchmark makes of what it saw."""

import pytest

from benchmarks.freshness.report import markdown, row_of
from benchmarks.freshness.visits import Visit


def visits(count: int, promoted: int) -> list[Visit]:
    return [Visit(number / 10, number <= promoted) for number in range(1, count + 1)]


def test_percentiles_are_of_those_who_were_promoted():
    row = row_of("busy", visits(200, 100), 95, 9.5)
    assert (row.newcomers, row.promoted, row.judged) == (200, 100, 200)
    assert (row.p50_s, row.p95_s, row.p99_s, row.max_s, row.judged_p95_s) == (5.05, 9.5, 9.9, 10.0, 19.0)
    assert row.holds
    assert "| busy | 200 | 100 | 5.05 | 9.50 | 9.90 | 10.00 | 19.00 | p95 at most 9.5 |" in markdown([row], {})


@pytest.mark.parametrize(
    ("seen", "bound_s"), [(visits(100, 100), 9.4), ([*visits(100, 100), Visit(None, promoted=False)], 60.0)]
)
def test_a_late_adapter_or_a_newcomer_who_was_never_judged_breaks_the_bound(seen, bound_s):
    assert not row_of("busy", seen, 95, bound_s).holds
