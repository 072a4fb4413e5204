"""A panel's data as SVG, near enough to what Grafana draws that one sees what an operator would."""

import html
import math
import time
from dataclasses import dataclass, field

from tests.dashboards.units import written

COLOURS = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44", "blue": "#3274d9", "text": "#8e8e96"}
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffcb7d", "#96d98d", "#ca95e5")
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 8, 22
GRID, INK = "#2c3235", "#9a9aa5"
TIME_TICKS = (60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0, 10 * 86_400.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel; gaps are absent points."""

    name: str
    colour: str
    points: tuple[tuple[float, float], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a chart lies: its pixels, its time, its values."""

    width: float
    height: float
    start: float
    end: float
    low: float
    high: float
    logarithmic: bool = False

    def x(self, at: float) -> float:
        return LEFT + (at - self.start) / (self.end - self.start) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (self._place(value) - self._place(self.low)) / ((self._place(self.high) - self._place(self.low)) or 1)
        return TOP + (self.height - TOP - BOTTOM) * (1 - min(1.0, max(0.0, share)))

    def _place(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.logarithmic else value


def lines(
    series: list[Series], panel: dict, frame: tuple[float, float, float, float], bands: list[tuple[float, float]]
) -> str:
    """Lines, or areas on each other, over their time; `bands` are times at which an alert fired."""
    width, height, start, end = frame
    custom, defaults = panel["fieldConfig"]["defaults"]["custom"], panel["fieldConfig"]["defaults"]
    stacked = custom["stacking"]["mode"] == "normal"
    drawn = _stacked(series) if stacked else series
    logarithmic = custom["scaleDistribution"]["type"] == "log"
    limits = [step["value"] for step in defaults["thresholds"]["steps"] if step["value"] is not None]
    low, high = _range(drawn, defaults, logarithmic)
    on = Frame(width, height, start, end, low, high, logarithmic)
    parts = [
        f'<rect x="{on.x(a):.1f}" y="{TOP}" width="{max(2.0, on.x(b) - on.x(a)):.1f}" '
        f'height="{height - TOP - BOTTOM:.1f}" fill="#e02f44" opacity=".13"/>'
        for a, b in bands
    ]
    parts += [_axes(on, defaults.get("unit", "none"))]
    parts += [_area(each, on) if stacked else _line(each, on) for each in (reversed(drawn) if stacked else drawn)]
    if custom["thresholdsStyle"]["mode"] != "off":
        parts += [
            f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{on.y(each):.1f}" y2="{on.y(each):.1f}" '
            'stroke="#e02f44" stroke-dasharray="6 4"/>'
            for each in limits
            if low <= each <= high
        ]
    return f'<svg width="{width:.0f}" height="{height:.0f}">{"".join(parts)}</svg>'


def bars(rows: list[tuple[str, float]], unit: str, decimals: int | None, width: float) -> str:
    """Horizontal bars, each with its name and number."""
    most = max((value for _, value in rows), default=0) or 1
    drawn = []
    for name, value in rows[:9]:
        share = max(0.0, value / most) * (width - 290)
        drawn.append(
            f'<div class="b"><span class="n">{html.escape(name)}</span><i style="width:{share:.0f}px"></i>'
            f"<em>{written(value, unit, decimals)}</em></div>"
        )
    return "".join(drawn)


def legend(series: list[Series], width: float) -> str:
    """Names under a chart, as many as fit in two lines."""
    shown, used = [], 0.0
    for each in series:
        used += 24 + 6.3 * len(each.name)
        if used > 2 * width:
            shown.append("<span>…</span>")
            break
        shown.append(f'<span><i style="background:{each.colour}"></i>{html.escape(each.name)}</span>')
    return f'<div class="l">{"".join(shown)}</div>'


def colour_of(value: float, steps: list[dict]) -> str:
    """The colour of the highest step that `value` reaches."""
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return COLOURS.get(reached[-1], reached[-1])


def _stacked(series: list[Series]) -> list[Series]:
    below: dict[float, float] = {}
    drawn = []
    for each in series:
        for at, value in each.points:
            below[at] = below.get(at, 0.0) + value
        drawn.append(Series(each.name, each.colour, tuple((at, below[at]) for at, _ in each.points)))
    return drawn


def _range(series: list[Series], defaults: dict, logarithmic: bool) -> tuple[float, float]:
    """Lowest and highest value of the axis; where the panel leaves them open, whole ticks."""
    values = [value for each in series for _, value in each.points]
    if logarithmic:
        values = [value for value in values if value > 0] or [1.0]
        return min(values) / 1.3, max(values) * 1.3
    low = min([defaults["min"]] if "min" in defaults else values)
    high = defaults.get("max", max(values))
    if high <= low:
        return low, low + 1.0
    step = _tick(high - low, defaults.get("unit", "none"))
    return (
        low if "min" in defaults else math.floor(low / step) * step,
        high if "max" in defaults else math.ceil(high / step * 1.02) * step,
    )


def _tick(span: float, unit: str) -> float:
    """A round step, of which about four make up `span`."""
    if unit == "s" and span > 180:
        return next((each for each in TIME_TICKS if span / each <= 5), TIME_TICKS[-1])
    base = 2**30 if unit == "bytes" and span > 2**30 else 2**20 if unit == "bytes" and span > 2**20 else 1.0
    rough = span / base / 4.5
    power = 10 ** math.floor(math.log10(rough))
    return base * power * next(each for each in (1, 2, 2.5, 5, 10) if each * power >= rough)


def _ticks(on: Frame, unit: str) -> list[float]:
    if on.logarithmic:
        powers = range(math.floor(math.log10(on.low)), math.ceil(math.log10(on.high)) + 1)
        return [each for power in powers for each in (10.0**power, 3 * 10.0**power) if on.low <= each <= on.high]
    step = _tick(on.high - on.low, unit)
    first = math.ceil(on.low / step - 1e-9)
    return [index * step for index in range(first, math.floor(on.high / step + 1e-9) + 1)]


def _axes(on: Frame, unit: str) -> str:
    parts = []
    for value in _ticks(on, unit):
        y = on.y(value)
        parts.append(f'<line x1="{LEFT}" x2="{on.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{written(value, unit)}</text>')
    hours = max(1, round((on.end - on.start) / 3600 / 6))
    at = math.ceil(on.start / 3600 / hours) * 3600 * hours
    while at <= on.end:
        x, text = on.x(at), time.strftime("%H:%M", time.gmtime(at))
        if x < on.width - 2 * RIGHT:
            parts.append(f'<text x="{x:.1f}" y="{on.height - 5}" text-anchor="middle">{text}</text>')
        at += 3600 * hours
    return "".join(parts)


def _line(each: Series, on: Frame) -> str:
    """One path for each stretch without a gap."""
    if not each.points:
        return ""
    step = min((b[0] - a[0] for a, b in zip(each.points, each.points[1:], strict=False)), default=1.0)
    path, before = [], None
    for at, value in each.points:
        path.append(
            f"{'L' if before is not None and at - before <= 1.5 * step else 'M'}{on.x(at):.1f} {on.y(value):.1f}"
        )
        before = at
    return f'<path d="{"".join(path)}" fill="none" stroke="{each.colour}" stroke-width="1.6"/>'


def _area(each: Series, on: Frame) -> str:
    if not each.points:
        return ""
    top = " ".join(f"{on.x(at):.1f},{on.y(value):.1f}" for at, value in each.points)
    first, last = on.x(each.points[0][0]), on.x(each.points[-1][0])
    ground = on.y(on.low)
    corners = f"{first:.1f},{ground:.1f} {top} {last:.1f},{ground:.1f}"
    return f'<polygon points="{corners}" fill="{each.colour}" fill-opacity=".85"/>'
