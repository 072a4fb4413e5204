"""How sure answers may be, measured in small; and that figures which break a promise are found."""

import json
from dataclasses import replace

import pytest
import torch

import plora
from benchmarks.calibration.answers import Judged, accuracy_at, calibrated, held_at, lowered, worth
from benchmarks.calibration.measuring import QUICK, measure
from benchmarks.calibration.report import document, facts
from benchmarks.quality.source import DataSet, Row
from tests.plora import toys

LOUD = [
    [Judged({"yes": 0.98, "no": 0.02}, "yes" if at % 4 else "no") for at in range(8)],
    [Judged({"yes": 0.4, "no": 0.6}, "no" if at % 5 else "yes") for at in range(8)],
]


def test_worth_is_that_of_a_hand():
    found = worth([[Judged({"yes": 0.5, "no": 0.5}, "yes"), Judged({"yes": 1.0, "no": 0.0}, "yes")]])
    assert found.nll == pytest.approx(0.5 * 0.6931, abs=1e-4)
    assert found.brier == pytest.approx(0.25)


def test_calmer_answers_cost_the_too_sure_less():
    after = calibrated(LOUD, plora.Calibration(2.0))
    assert lowered(LOUD[:1], after[:1]).value > 0
    assert [each.correct for each in after[0]] == [each.correct for each in LOUD[0]]


def test_the_surest_answers_are_taken_first_and_the_policy_holds_the_others():
    sure = [[Judged({"a": 0.9, "b": 0.1}, "a"), Judged({"a": 0.6, "b": 0.4}, "b")]]
    assert accuracy_at(sure)[1.0] == 0.5
    assert accuracy_at(sure)[0.5] == 1.0
    held = {each.floor: each for each in held_at(sure)}[0.7]
    assert (held.share, held.given, held.held) == (0.5, 1.0, 0.0)


@pytest.fixture(scope="module")
def found():
    torch.set_num_threads(1)
    base = plora.wrap(toys.bert(), toys.tokenizer(framed=True), kind=plora.Kind.CLASSIFICATION, max_tokens=24)
    rows = []
    for user in range(14):
        said = toys.reviews(14, 300 + user, toys.TRIBES[user % 4])
        rows += [Row(str(user), each.text, each.target, "test" if at >= 8 else "train") for at, each in enumerate(said)]
    sizes = replace(QUICK, population=8, newcomers=6, explained=2)
    return measure(base, DataSet("toys", tuple(rows), ""), sizes, 1)


def test_a_data_set_is_measured_and_told_as_json(found):
    told = json.loads(json.dumps(facts([found]), allow_nan=False))["datasets"][0]
    assert (told["people"], told["learnt_on"]) == (6, 8 * 4)
    assert [side["name"] for side in told["sides"]] == ["adapters", "the generic model"]
    assert "| toys, adapters |" in document([found])
    assert found.reasons.correlation > 0.9


def test_figures_that_break_a_promise_are_named(found):
    personal = found.sides[0]
    spoiled = replace(personal, accuracy=dict.fromkeys(personal.accuracy, 0.5))
    worse = replace(found, sides=(spoiled, found.sides[1]), reasons=replace(found.reasons, correlation=0.5))
    assert any("reasons" in each for each in worse.broken)
    assert any("answers given" in each for each in worse.broken)
    assert facts([worse])["broken"] == worse.broken
