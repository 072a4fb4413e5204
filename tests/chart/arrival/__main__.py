"""Writes values.json again: `python -m tests.chart.arrival`, where the daemon's packages are installed.

Then `python -m tests.chart.test_settings`, where the Helm engine is, writes what of it a pod's environment says.
"""

import json
from pathlib import Path

from tests.chart.arrival.choices import as_values, choose

HERE = Path(__file__).parent

if __name__ == "__main__":
    text = json.dumps(as_values(choose()), indent=1) + "\n"
    (HERE / "values.json").write_text(text, encoding="utf-8")
