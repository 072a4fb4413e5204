"""What holds for the package as a whole."""

import ast
import pickle
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import policies
from policies import (
    Decision,
    InvalidFact,
    Policies,
    PolicyError,
    access,
    attempts,
    belief,
    cohort,
    drift,
    hold,
    promotion,
    refit,
    retention,
    rollout,
    selection,
    trigger,
)

MODULES = [access, attempts, belief, cohort, drift, hold, promotion, refit, retention, rollout, selection, trigger]
DECISIONS = Decision.__subclasses__()
IMPURE = {"time", "random", "secrets", "os", "logging", "socket", "threading", "asyncio", "uuid"}


def test_every_policy_decides_by_one_of_these():
    names = {decision.__name__ for decision in DECISIONS}
    assert names == {
        "Allow",
        "Deny",
        "Train",
        "Wait",
        "Selection",
        "Division",
        "NotEnough",
        "Steady",
        "Drifted",
        "RollBack",
        "BeginAnew",
        "GoOn",
        "Try",
        "Retry",
        "Dead",
        "Promote",
        "Reject",
        "Forget",
        "Keep",
        "Refit",
        "Full",
        "Continue",
        "Give",
        "Hold",
    }


@pytest.mark.parametrize("decision", [Decision, *DECISIONS])
@pytest.mark.parametrize(("reason", "code"), [("", "fine"), ("  ", "fine"), ("fine", ""), ("fine", "Not A Label")])
def test_a_decision_without_a_reason_cannot_be_built(decision, reason, code):
    rest = {
        "learn": (1,),
        "judged": (),
        "held_out": (2,),
        "id": 1,
        "forget_versions": (),
        "forget_events": (),
        "covered": (),
        "new": (),
        "company": 1,
        "at": datetime(2026, 3, 1, tzinfo=UTC),
    }
    more = {field.name: rest[field.name] for field in fields(decision) if field.name in rest}
    assert decision("a reason", "a_code", **more).reason == "a reason"
    with pytest.raises(InvalidFact):
        decision(reason, code, **more)


@pytest.mark.parametrize("decision", DECISIONS)
def test_reason_and_code_are_required(decision):
    with pytest.raises(TypeError):
        decision()


@given(st.text())
def test_a_code_is_fit_to_be_a_metric_label(code):
    try:
        built = Decision("a reason", code)
    except InvalidFact:
        return
    assert built.code.isascii()
    assert built.code == built.code.strip().lower()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_facts_and_decisions_are_frozen_and_slotted(module):
    values = [value for value in vars(module).values() if isinstance(value, type) and is_dataclass(value)]
    for value in values:
        assert value.__dataclass_params__.frozen
        assert "__slots__" in vars(value)


def test_a_decision_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        trigger.Train("8 fresh events", "enough_fresh").reason = "another"


def test_policies_import_nothing_that_has_state_or_effects():
    for source in Path(policies.__file__).parent.glob("*.py"):
        tree = ast.walk(ast.parse(source.read_text()))
        found = {name for node in tree for name in imported(node)}
        assert not found & IMPURE, source.name
        assert found <= {*sys.stdlib_module_names, "policies"}, source.name


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    return [(node.module or "").split(".")[0]] if isinstance(node, ast.ImportFrom) else []


def test_an_operator_replaces_one_policy_and_keeps_the_rest():
    def never(activity: trigger.Activity, limits: trigger.Limits, now: datetime) -> trigger.Wait:
        return trigger.Wait("training is paused", "paused")

    mine = Policies(when=never)
    assert mine.when is never
    assert (mine.may, mine.what, mine.pack) == (access.may, selection.what, cohort.pack)
    assert (mine.judge, mine.keep) == (promotion.judge, retention.keep)
    assert (mine.treats, mine.conclude, mine.consider) == (rollout.treats, rollout.decide, hold.consider)
    assert (mine.divide, mine.watch, mine.since) == (selection.divide, drift.watch, drift.since)


@pytest.mark.parametrize("error", [InvalidFact("Limits.min_fresh", "0", "a whole number of at least 1"), PolicyError()])
def test_errors_survive_pickling(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))
