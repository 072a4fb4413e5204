"""The rules: written from the code, valid, explained, and each alert seen to fire and to stay silent."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from daemon import commands, settings
from helm.generate import rules
from helm.generate.alerts import RUNBOOKS
from tests.dashboards import cases_ground, cases_serving, cases_training
from tests.dashboards.cases import Case
from tests.dashboards.known import known
from tests.dashboards.pictures import ROOT, RULES, boards
from tests.dashboards.promql import look
from tests.dashboards.server import promtool

CASES = (*cases_serving.CASES, *cases_training.CASES, *cases_ground.CASES)
NAMED = {alert.name: alert for alert in rules.ALERTS}
RECORDED = "plora.objectives"


def sections() -> dict[str, str]:
    """Anchor -> text, of the runbooks."""
    parts = re.split(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), flags=re.MULTILINE)
    return {name.lower().replace(" ", "-"): text for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_the_file_is_what_the_code_makes():
    assert RULES.read_text() == rules.dumps()


def test_prometheus_takes_the_rules():
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


def test_every_rule_asks_only_for_what_is_exported():
    there, problems = known(), []
    for group in rules.groups():
        for rule in group["rules"]:
            found = look(rule["expr"], there)
            problems += [f"{rule.get('alert', rule.get('record'))}: {each}" for each in found.problems]
    assert problems == []


@pytest.mark.parametrize("name", NAMED)
def test_an_alert_says_what_it_is_and_where_to_read_on(name):
    rule = NAMED[name].rule
    said = rule["annotations"]
    assert re.fullmatch(r"Plora([A-Z][a-z]+)+", name)
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(said["summary"]) < 100
    assert said["description"].endswith(".")
    assert said["runbook_url"].split("#") == [RUNBOOKS, name.lower()]
    assert said["dashboard_url"].removeprefix("/d/") in boards()
    section = sections()[name.lower()]
    assert all(f"**{part}**" in section for part in ("Means", "Look", "Mend"))


def test_the_runbooks_have_no_section_without_its_alert():
    assert {each for each in sections() if each.startswith("plora")} == {each.lower() for each in NAMED}


def test_every_link_within_the_runbooks_leads_somewhere():
    text = (ROOT / "docs" / "runbooks.md").read_text()
    assert set(re.findall(r"\(#([^)]+)\)", text)) <= set(sections())
    for file in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / file).exists(), file


def test_every_command_of_the_runbooks_exists():
    named = re.findall(r"`python -m daemon ([^`]+)`", (ROOT / "docs" / "runbooks.md").read_text())
    assert len(named) > 10
    for command in named:
        assert commands.parser().parse_args(command.split()), command


def test_every_setting_of_the_runbooks_exists():
    there = dict(settings.defaults())
    for name in re.findall(r"PLORA_[A-Z0-9_]+", (ROOT / "docs" / "runbooks.md").read_text()):
        found = [each for each in there if each == name or (name.endswith("_") and each.startswith(name))]
        assert found, name


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    for fires in (True, False):
        assert {case.alert for case in CASES if case.fires is fires} == set(NAMED)


@pytest.mark.parametrize("group", [each["name"] for each in rules.groups() if "alert" in each["rules"][0]])
def test_alerts_fire_when_they_should_and_only_then(tmp_path, group):
    mine = {rule["alert"] for each in rules.groups() if each["name"] == group for rule in each["rules"]}
    needed = {group, RECORDED} if group == "plora.burn" else {group}
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [_plain(each) for each in rules.groups() if each["name"] in needed]})
    )
    by_step: defaultdict[str, list[Case]] = defaultdict(list)
    for case in CASES:
        if case.alert in mine:
            by_step[case.step].append(case)
    for step, cases in by_step.items():
        done = promtool("test", "rules", _written(tmp_path, step, cases))
        assert done.returncode == 0, done.stdout + done.stderr


def _plain(group: dict) -> dict:
    """Without annotations, which a case would have to repeat with its numbers put in."""
    return group | {
        "rules": [{key: value for key, value in rule.items() if key != "annotations"} for rule in group["rules"]]
    }


def _written(folder: Path, step: str, cases: list[Case]) -> Path:
    tests = [
        {
            "name": f"{case.alert} {'fires' if case.fires else 'is silent'}",
            "interval": step,
            "input_series": case.input_series,
            "alert_rule_test": [
                {
                    "eval_time": f"{case.steps * int(step[:-1])}{step[-1]}",
                    "alertname": case.alert,
                    "exp_alerts": _expected(case),
                }
            ],
        }
        for case in cases
    ]
    path = folder / f"test-{step}.yaml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": step, "tests": tests}))
    return path


def _expected(case: Case) -> list[dict]:
    if not case.fires:
        return []
    where = {} if case.alert == "PloraDaemonAbsent" else {"namespace": "here"}
    return [{"exp_labels": {"severity": NAMED[case.alert].severity.value, **where, **case.labels}}]
