"""The boards: written from the code, every name in them exported, every panel explained, none on another."""

import json
from collections import Counter

import pytest

from helm.generate.boards import shelf
from helm.generate.boards.panels import Query
from tests.dashboards.known import known
from tests.dashboards.pictures import BOARDS, boards
from tests.dashboards.promql import filled, look

NAMES = sorted(boards())
KNOWN = known()


def panels(board: dict) -> list[dict]:
    return [each for each in board["panels"] if each["type"] != "row"]


def test_there_is_a_board_for_each_question():
    assert [each.name for each in shelf.BOARDS] == ["overview", "training", "quality", "serving", "security", "ray"]


def test_the_files_are_what_the_code_makes():
    made = {path: make() for path, make in shelf.files().items()}
    assert {f"dashboards/{each.name}": each.read_text() for each in BOARDS.iterdir()} == made


@pytest.mark.parametrize("name", NAMES)
def test_every_expression_parses_and_asks_only_for_what_is_exported(name):
    problems = []
    for panel in panels(boards()[name]):
        for target in panel["targets"]:
            found = look(filled(target["expr"]), KNOWN, target["legendFormat"])
            problems += [f"{panel['title']}: {each}" for each in found.problems]
    assert problems == []


@pytest.mark.parametrize("name", NAMES)
def test_a_board_can_be_provisioned_anywhere(name):
    board = boards()[name]
    assert board["id"] is None
    assert board["uid"] == name
    assert board["tags"] == ["plora"]
    assert board["schemaVersion"] >= 39
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "cluster", "namespace"]
    assert {link["url"] for link in board["links"]} == {f"/d/{each}" for each in NAMES if each != name}
    text = json.dumps(board)
    assert text.count('"datasource": {') == text.count('"uid": "${datasource}"')
    assert len(text) < 900_000


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_has_title_description_unit_and_legend(name):
    board = boards()[name]
    for panel in panels(board):
        assert panel["title"]
        assert len(panel["description"]) > 8, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert 'namespace=~"$namespace"' in target["expr"], panel["title"]
            assert 'cluster=~"$cluster"' in target["expr"], panel["title"]
    assert max(Counter(each["title"] for each in panels(board)).values()) <= 2
    ids = [each["id"] for each in board["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_no_panel_lies_on_another_or_off_the_grid(name):
    taken: set[tuple[int, int]] = set()
    for panel in boards()[name]["panels"]:
        box = panel["gridPos"]
        cells = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
        assert box["x"] + box["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_check_finds_a_wrong_metric_label_value_and_legend():
    def problems(expr: str, legend: str = "") -> list[str]:
        return look(filled(Query(expr, legend).text), KNOWN, legend).problems

    assert problems("rate(plora_nothing_total{@}[5m])") == ["plora_nothing_total is exported by nobody"]
    assert problems('plora_queue_depth{colour="red",@}') == ["plora_queue_depth has no label colour"]
    assert problems("sum by (colour) (plora_queue_depth{@})") == ["grouped by colour, which nothing inside carries"]
    assert problems("sum by (mode) (rate(plora_fits_total{@}[$__rate_interval]))", "{{code}}") == [
        "the legend names code, which no result carries"
    ]
    assert problems('plora_versions_total{decision="liked",@}') == ["no decision of plora_versions_total is 'liked'"]
    assert problems("sum(plora_queue_depth{@}")[0].startswith("does not parse")
