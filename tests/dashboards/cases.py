"""For each alert a history at which it fires and one at which it stays silent, in promtool's notation.

`7x` stands for: 7 at every step; `0+3x`: 3 more at each. A step is a minute unless told; times begin at 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

STEPS = 460
WHERE = 'namespace="here"'
BUILD = 'plora_build_info{version="1"}'


@dataclass(frozen=True, slots=True)
class Case:
    """Series by their selector, without their namespace; looked at after so many steps."""

    alert: str
    fires: bool
    series: Mapping[str, str]
    steps: int = 100
    labels: Mapping[str, str] = field(default_factory=dict)
    step: str = "1m"

    @property
    def input_series(self) -> list[dict[str, str]]:
        return [{"series": _placed(name), "values": _long(values)} for name, values in self.series.items()]


def fires(alert: str, series: Mapping[str, str], steps: int = 100, step: str = "1m", **labels: str) -> Case:
    return Case(alert, True, series, steps, labels, step)


def silent(alert: str, series: Mapping[str, str], steps: int = 100, step: str = "1m") -> Case:
    return Case(alert, False, series, steps, {}, step)


def _placed(name: str) -> str:
    return f"{name[:-1]},{WHERE}}}" if name.endswith("}") else f"{name}{{{WHERE}}}"


def _long(values: str) -> str:
    """Fill up what ends in `x`: constant, or growing."""
    if not values.endswith("x"):
        return values
    return f"{values}{STEPS}" if "+" in values or "-" in values[1:] else f"{values[:-1]}+0x{STEPS}"
