"""The rule file: what is recorded of the objectives, how fast their budgets burn, and every alert."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import yaml

from helm.generate.alerts import Alert, Severity
from helm.generate.alerts_ray import RAY
from helm.generate.alerts_serving import SERVING
from helm.generate.alerts_store import STORE
from helm.generate.alerts_training import TRAINING
from helm.generate.objectives import OBJECTIVES, Objective

Rule: TypeAlias = dict[str, object]

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
LONG = "30d"
FEW = 5
"""So many bad answers at least: one that fails at night is no emergency."""

PATH = "rules/plora.yaml"
HEADER = (
    "# Made by `python -m helm.generate`. A plain rule file for Prometheus; the chart puts it into a PrometheusRule.\n"
)


def files() -> dict[str, Callable[[], str]]:
    """Path below the chart -> how its text is made."""
    return {PATH: dumps}


def dumps() -> str:
    """The whole file."""
    text: str = yaml.safe_dump({"groups": groups()}, sort_keys=False, width=120, allow_unicode=True)
    return HEADER + text


def groups() -> list[Rule]:
    """Recorded first, then what reads it."""
    return [
        _group("plora.objectives", (rule for each in OBJECTIVES for rule in _recorded(each))),
        _group("plora.budgets", (_left(each) for each in OBJECTIVES), interval="5m"),
        _group("plora.burn", (each.rule for each in BURN)),
        _group("plora.serving", (each.rule for each in SERVING)),
        _group("plora.training", (each.rule for each in TRAINING)),
        _group("plora.store", (each.rule for each in STORE)),
        _group("plora.ray", (each.rule for each in RAY)),
    ]


def _group(name: str, rules: Iterable[Rule], interval: str | None = None) -> Rule:
    return {"name": name, **({"interval": interval} if interval else {}), "rules": list(rules)}


def _recorded(each: Objective) -> list[Rule]:
    """How many times faster than sustainable the budget burns, by window."""
    return [
        {
            "record": f"plora:slo_burn:ratio_rate{window}",
            "expr": f"({each.ratio(window)}) / {each.budget:g}",
            "labels": {"slo": each.name},
        }
        for window in WINDOWS
    ]


def _left(each: Objective) -> Rule:
    """1: untouched; 0: spent; below: the objective is missed."""
    return {
        "record": "plora:slo_budget_left:ratio",
        "expr": f"1 - ({each.ratio(LONG)}) / {each.budget:g}",
        "labels": {"slo": each.name},
    }


def _burns(slo: str, long: str, short: str, factor: float) -> str:
    """Over the long window it matters; over the short one it still goes on."""
    return " and ".join(f'plora:slo_burn:ratio_rate{window}{{slo="{slo}",@}} > {factor:g}' for window in (long, short))


def _burn(each: Objective) -> tuple[Alert, Alert]:
    fast, slow = (
        " or ".join(f"({_burns(each.name, *one)})" for one in pair)
        for pair in (
            (("1h", "5m", 14.4), ("6h", "30m", 6.0)),
            (("1d", "2h", 3.0), ("3d", "6h", 1.0)),
        )
    )
    board = "training" if each.name == "freshness" else "serving"
    return (
        Alert(
            f"Plora{each.title}BudgetBurnsFast",
            f"({fast}) and on (cluster, namespace) ({each.count_of_bad('1h')}) > {FEW}",
            2,
            Severity.CRITICAL,
            f"The error budget of {each.name} will be gone in days in {{{{ $labels.namespace }}}}",
            f"It burns {{{{ $value | humanize }}}} times faster than it may. {each.says}",
            board,
        ),
        Alert(
            f"Plora{each.title}BudgetBurnsSlowly",
            f"({slow}) and on (cluster, namespace) ({each.count_of_bad('1d')}) > {FEW}",
            15,
            Severity.WARNING,
            f"The error budget of {each.name} will not last in {{{{ $labels.namespace }}}}",
            f"It burns {{{{ $value | humanize }}}} times faster than it may. {each.says}",
            board,
        ),
    )


BURN = tuple(alert for each in OBJECTIVES for alert in _burn(each))
ALERTS = (*BURN, *SERVING, *TRAINING, *STORE, *RAY)
"""Every alert there is."""
