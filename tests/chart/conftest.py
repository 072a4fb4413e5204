"""The chart's tests run where the Helm engine is: `make chart-test` makes that environment."""

import importlib.util
import time
from pathlib import Path

import pytest

NEEDED = ("helm_sdkpy", "kubernetes_validate", "jsonschema", "yaml")
collect_ignore_glob = [] if all(map(importlib.util.find_spec, NEEDED)) else ["test_*.py"]
MOST_S = 90  # of processor time, Helm's own threads too: a busy machine makes nobody's tests red
HERE = Path(__file__).parent


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the run that took all of these tests and too long."""
    files = {Path(item.path) for item in session.items}
    is_whole = files >= set(HERE.glob("test_*.py")) and not collect_ignore_glob
    spent = time.process_time()
    if is_whole:
        print(f"\n{spent:.0f} s of processor time; at most {MOST_S}")
        if exitstatus == 0 and spent > MOST_S:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
