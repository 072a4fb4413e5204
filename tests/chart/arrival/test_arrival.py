"""Each value of the settings is what the daemon reads: the environments of its pods, loaded by the daemon itself."""

import json
from pathlib import Path

import pytest

settings = pytest.importorskip("daemon.settings", reason="the daemon's packages are not in this environment")

from helm.generate.settings import CHART_SETS  # noqa: E402
from tests.chart.arrival.choices import EXCLUDED, as_values, choose, paths  # noqa: E402

HERE = Path(__file__).parent
ENVIRONMENTS = json.loads((HERE / "environments.json").read_text())
PODS = [(file, place) for file, pods in ENVIRONMENTS.items() for place in pods]
DAEMON, CONSUMER = "deployments/rel-plora", "deployments/rel-plora-ingest"


@pytest.fixture(scope="module")
def chosen():
    return choose()


def test_every_setting_has_a_value_of_the_chart(chosen):
    assert json.loads((HERE / "values.json").read_text()) == as_values(chosen), "run python -m tests.chart.arrival"


def test_every_value_arrives_as_it_was_given(chosen):
    wanted, pods = settings.load(chosen), ENVIRONMENTS["chosen"]
    daemon, consumer = (settings.load(pods[place]) for place in (DAEMON, CONSUMER))
    for name, path in paths():
        if name not in EXCLUDED and "_".join(path) not in CHART_SETS:
            found = consumer if path[0] == "ingest" else daemon
            assert _at(found, path) == _at(wanted, path) != _at(settings.Settings(), path), name


@pytest.mark.parametrize(("file", "place"), PODS)
def test_every_pod_of_every_values_file_would_start(file, place):
    settings.load(ENVIRONMENTS[file][place])


def test_what_the_chart_itself_sets_is_listed():
    known = {"_".join(path) for _, path in paths()}
    assert set(CHART_SETS) <= known
    assert {"PLORA_DATA_DIR", "PLORA_KEYS_DIR", "PLORA_HOST", "PLORA_PORT"} <= set(ENVIRONMENTS["chosen"][DAEMON])


def _at(node, path):
    for step in path:
        node = getattr(node, step)
    return node
