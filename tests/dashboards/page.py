"""A board drawn on its grid: asked of Prometheus, put into one HTML page, photographed by a browser."""

import html
import math
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests import tools
from tests.dashboards import drawing
from tests.dashboards.drawing import PALETTE, Series
from tests.dashboards.promql import LEGEND, filled
from tests.dashboards.server import Prometheus
from tests.dashboards.units import written

WIDTH, LINE, GAP = 1600, 32, 8
POINTS = 240
STYLE = """
body{margin:0;padding:10px 14px;background:#111217;color:#ccccdc;font:12.5px 'DejaVu Sans',sans-serif;width:1600px}
h1{font-size:19px;font-weight:500;margin:2px 0 2px}.w{color:#8e8e96;margin-bottom:8px}
#g{position:relative}.p{position:absolute;background:#181b1f;border:1px solid #25282d}
.p{border-radius:3px;box-sizing:border-box;overflow:hidden}
.p>b{display:block;font-weight:500;padding:6px 9px 2px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.r{position:absolute;font-weight:500;font-size:14px;padding-top:6px}
.s{position:absolute;inset:0;display:flex;align-items:center;justify-content:center;
padding-top:18px;font-size:32px;font-weight:500;color:#fff}.s+b,.p.c>b{color:#fff;position:relative}text{fill:#9a9aa5;font-size:11px}
.l{padding:0 9px;line-height:17px;height:34px;overflow:hidden;color:#b0b0ba}
.l span{margin-right:12px;white-space:nowrap;display:inline-block}
.l i{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:5px;vertical-align:middle}
.b{display:flex;align-items:center;height:24px;padding:0 9px}
.b .n{width:190px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.b i{height:15px;background:#3274d9;border-radius:2px;margin-right:8px}.b em{font-style:normal;color:#fff}
"""


@dataclass(slots=True)
class Drawn:
    """A page and the titles of its panels that showed nothing."""

    html: str = field(repr=False)
    empty: list[str]


def draw(board: dict, server: Prometheus, end: float, hours: float = 6.0) -> Drawn:
    """The board as an operator sees it at `end`."""
    start, unit = end - hours * 3600, WIDTH / 24
    bands, parts, empty, bottom = _bands(server, start, end), [], [], 0
    for panel in board["panels"]:
        grid = panel["gridPos"]
        x, y, w, h = grid["x"] * unit, grid["y"] * (LINE + 2), grid["w"] * unit - GAP, grid["h"] * (LINE + 2) - GAP
        bottom = max(bottom, y + h)
        place = f"left:{x:.0f}px;top:{y:.0f}px;width:{w:.0f}px;height:{h:.0f}px"
        if panel["type"] == "row":
            parts.append(f'<div class="r" style="{place}">▾ {html.escape(panel["title"])}</div>')
            continue
        body, colour = _body(panel, server, (w, h, start, end), bands)
        if body is None:
            empty.append(panel["title"])
            body = '<div class="s" style="color:#8e8e96;font-size:20px">No data</div>'
        style = f"{place};background:{colour}" if colour else place
        parts.append(
            f'<div class="p{" c" if colour else ""}" style="{style}"><b>{html.escape(panel["title"])}</b>{body}</div>'
        )
    when = f"{time.strftime('%H:%M', time.gmtime(start))} to {time.strftime('%H:%M', time.gmtime(end))} UTC"
    title, says = html.escape(board["title"]), html.escape(board["description"])
    head = f'<h1>{title}</h1><div class="w">{says} &nbsp;·&nbsp; {when}</div>'
    grid = f'<div id="g" style="height:{bottom:.0f}px">{"".join(parts)}</div>'
    return Drawn(f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{head}{grid}', empty)


def photograph(drawn: Drawn, to: Path, height: int) -> None:
    """The page as a PNG."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(drawn.html)
        command = [
            str(tools.need("chromium")),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            f"--user-data-dir={folder}/profile",
            f"--window-size={WIDTH + 28},{height}",
            f"--screenshot={to}",
            page.as_uri(),
        ]
        subprocess.run(command, env=tools.environment(), check=True, capture_output=True, timeout=120)


def height_of(board: dict) -> int:
    """Pixels that a page of this board needs."""
    return max((each["gridPos"]["y"] + each["gridPos"]["h"]) * (LINE + 2) for each in board["panels"]) + 72


def series_of(panel: dict, server: Prometheus, start: float, end: float) -> list[Series]:
    """Every line of a panel over its time."""
    step = max(15.0, (end - start) / POINTS)
    fixed = {
        each["matcher"]["options"]: each["properties"][0]["value"]["fixedColor"]
        for each in panel["fieldConfig"]["overrides"]
    }
    found: list[Series] = []
    for target in panel["targets"]:
        for each in server.over(filled(target["expr"]), start, end, step):
            points = tuple((float(at), float(value)) for at, value in each["values"] if math.isfinite(float(value)))
            name = LEGEND.sub(lambda match, each=each: each["metric"].get(match[1], ""), target["legendFormat"])
            if points:
                colour = drawing.COLOURS.get(fixed.get(name, ""), PALETTE[len(found) % len(PALETTE)])
                found.append(Series(name, colour, points))
    return found


def now_of(panel: dict, server: Prometheus, end: float) -> list[tuple[str, float]]:
    """Name and value of what a panel of one moment shows."""
    found = []
    for target in panel["targets"]:
        for each in server.at(filled(target["expr"]), end):
            name = LEGEND.sub(lambda match, each=each: each["metric"].get(match[1], ""), target["legendFormat"])
            if math.isfinite(float(each["value"][1])):
                found.append((name, float(each["value"][1])))
    return found


def _body(
    panel: dict, server: Prometheus, frame: tuple[float, float, float, float], bands: list[tuple[float, float]]
) -> tuple[str | None, str]:
    """What stands below the title, None if nothing does; and the panel's colour."""
    width, height, start, end = frame
    defaults = panel["fieldConfig"]["defaults"]
    unit, decimals = defaults["unit"], defaults.get("decimals")
    if panel["type"] == "timeseries":
        series = series_of(panel, server, start, end)
        if not series:
            return None, ""
        chart = drawing.lines(series, panel, (width, height - 62, start, end), bands)
        return chart + drawing.legend(series, width), ""
    rows = now_of(panel, server, end)
    if not rows:
        return None, ""
    if panel["type"] == "bargauge":
        return drawing.bars(rows, unit, decimals, width), ""
    value = rows[0][1]
    words = {name: each["text"] for mapping in defaults["mappings"] for name, each in mapping["options"].items()}
    text = words.get(f"{value:g}", written(value, unit, decimals))
    return f'<div class="s">{html.escape(text)}</div>', drawing.colour_of(value, defaults["thresholds"]["steps"])


def _bands(server: Prometheus, start: float, end: float) -> list[tuple[float, float]]:
    """When at least one alert of ours fired."""
    firing = server.over('count(ALERTS{alertstate="firing",alertname=~"Plora.+"})', start, end, 60)
    times = [float(at) for each in firing for at, _ in each["values"]]
    bands: list[tuple[float, float]] = []
    for at in times:
        if bands and at - bands[-1][1] <= 61:
            bands[-1] = (bands[-1][0], at)
        else:
            bands.append((at, at + 1))
    return bands
