"""docs/reliability.md has every row of the failure matrix, and names no test that does not exist."""

import re

from tests.faults.failpoints import ROOT

DOCUMENT = ROOT / "docs/reliability.md"
ROWS = 31
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]*)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_row_is_there_and_says_what_is_expected_and_who_looks():
    rows = ROW.findall(DOCUMENT.read_text())
    assert [int(number) for number, *_ in rows] == list(range(1, ROWS + 1))
    for number, fault, expected, tests, _ in rows:
        assert fault.strip(), number
        assert expected.strip(), number
        assert TEST.search(tests), f"row {number} names no test"


def test_every_test_that_is_named_exists():
    named = TEST.findall(DOCUMENT.read_text())
    assert len(named) > ROWS
    for path, name in named:
        source = (ROOT / path).read_text()
        assert re.search(rf"^\s*def {name}\(", source, re.MULTILINE), f"{path} has no {name}"
