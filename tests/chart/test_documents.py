"""C3: what people read of the chart is made from it, and says what comes next."""

import re

import pytest
import yaml

from tests.chart.engine import CHART, releasing
from tests.chart.scenes import FILES, cluster, values
from tests.chart.test_schema import VALUES, leaves

UNSAFE = {
    "a single SQLite file": ("embedded", {}, "SQLite"),
    "no network policy": ("embedded", {"networkPolicy": {"enabled": False}}, "networkPolicy"),
    "Ray without a token": ("postgres-kuberay", {"ray": {"auth": {"enabled": False}}}, "ray.auth"),
    "consent by default": ("embedded", {"settings": {"defaultConsent": True}}, "defaultConsent"),
}


def notes(file, extra=None):
    chosen = values(file, extra)
    with releasing(cluster(chosen)) as release:
        return release.install(chosen)["info"]["notes"]


def test_the_table_of_the_readme_has_every_value():
    page = (CHART / "README.md").read_text()
    named = set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE))
    assert {path.strip("/").replace("/", ".") for path in leaves(VALUES)} <= named


@pytest.mark.parametrize("file", FILES)
def test_the_notes_name_three_commands_that_can_be_copied(file):
    said = notes(file)
    commands = [line.strip() for line in said.splitlines() if re.match(r"\s*(kubectl|helm|curl) ", line)]
    assert len(commands) >= 3, said
    assert all("<" not in command and "{{" not in command for command in commands)
    assert any("plora-system" in command for command in commands)


@pytest.mark.parametrize("case", UNSAFE)
def test_the_notes_warn_of_what_is_unsafe(case):
    file, extra, word = UNSAFE[case]
    warned = [line for line in notes(file, extra).splitlines() if "WARNING" in line]
    assert any(word in line for line in warned), warned


def test_every_values_file_says_what_it_is_for():
    for file in FILES:
        text = (CHART / "ci" / f"{file}.yaml").read_text()
        assert text.startswith("# "), file
        assert isinstance(yaml.safe_load(text), dict), file
