"""A Board as the JSON that Grafana provisions: laid out on its grid of 24 columns, bound to variables only."""

import json
from collections.abc import Iterator, Mapping

from helm.generate.boards.panels import CHOSEN, Board, Kind, Panel, Query, Row

COLUMNS = 24
SCHEMA_VERSION = 39
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
KNOWN_BY = "plora_build_info"  # every daemon exports it, so its labels list what there is to choose

Json = dict[str, object]


class TooWide(ValueError):
    """A panel is wider than the grid."""

    def __init__(self, title: str, width: int) -> None:
        super().__init__(title, width)
        self.title, self.width = title, width

    def __str__(self) -> str:
        return f"panel {self.title!r} is {self.width} columns wide; the grid has {COLUMNS}"


def dumps(board: Board, others: Mapping[str, str]) -> str:
    """The file of a board. `others` is uid -> title of the boards it links to."""
    return json.dumps(document(board, others), indent=1, ensure_ascii=False) + "\n"


def document(board: Board, others: Mapping[str, str]) -> Json:
    """The board as plain values."""
    return {
        "id": None,
        "uid": board.uid,
        "title": board.title,
        "description": board.says,
        "tags": ["plora"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_alerts()]},
        "links": [_link(uid, title) for uid, title in others.items() if uid != board.uid],
        "templating": {"list": _variables()},
        "panels": list(_panels(board.rows)),
    }


def _panels(rows: tuple[Row, ...]) -> Iterator[Json]:
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": _box(0, top, COLUMNS, 1),
        }
        top += 1
        left, tallest = 0, 0
        for panel in row.panels:
            if panel.width > COLUMNS:
                raise TooWide(panel.title, panel.width)
            if left + panel.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            number += 1
            yield _panel(panel, number, _box(left, top, panel.width, panel.height))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _box(x: int, y: int, w: int, h: int) -> Json:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(panel: Panel, number: int, box: Json) -> Json:
    return {
        "id": number,
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.says,
        "gridPos": box,
        "datasource": SOURCE,
        "targets": [_target(query, index, panel.kind) for index, query in enumerate(panel.queries)],
        "fieldConfig": {
            "defaults": _defaults(panel),
            "overrides": [_colour(each) for each in panel.queries if each.colour],
        },
        "options": _OPTIONS[panel.kind],
    }


def _target(query: Query, index: int, kind: Kind) -> Json:
    return {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "expr": query.text,
        "legendFormat": query.legend,
        "editorMode": "code",
        "instant": kind is not Kind.LINES,
        "range": kind is Kind.LINES,
    }


def _defaults(panel: Panel) -> Json:
    lines = panel.kind is Kind.LINES
    found: Json = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if lines else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
        "mappings": [{"type": "value", "options": {each: {"text": word} for each, word in panel.words.items()}}]
        if panel.words
        else [],
    }
    bounds = {"min": panel.least, "max": panel.most, "decimals": panel.decimals}
    found |= {name: value for name, value in bounds.items() if value is not None}
    if lines:
        found["custom"] = _drawing(panel)
    return found


def _steps(panel: Panel) -> list[Json]:
    first: Json = {"value": None, "color": panel.base}
    return [first, *({"value": value, "color": colour} for value, colour in panel.steps)]


def _drawing(panel: Panel) -> Json:
    return {
        "drawStyle": "line",
        "lineWidth": 1 if panel.stacked else 2,
        "fillOpacity": 60 if panel.stacked else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if panel.logarithmic else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if panel.steps else "off"},
    }


def _colour(query: Query) -> Json:
    return {
        "matcher": {"id": "byName", "options": query.legend},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": query.colour}}],
    }


def _alerts() -> Json:
    firing = f'ALERTS{{alertstate="firing",alertname=~"Plora.+",{CHOSEN}}}'
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "expr": firing,
        "iconColor": "red",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}}",
    }


def _link(uid: str, title: str) -> Json:
    return {
        "type": "link",
        "title": title,
        "url": f"/d/{uid}",
        "icon": "dashboard",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _variables() -> list[Json]:
    source: Json = {
        "type": "datasource",
        "name": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "options": [],
        "refresh": 1,
    }
    return [source, _choice("cluster", "Cluster", ""), _choice("namespace", "Namespace", '{cluster=~"$cluster"}')]


def _choice(name: str, label: str, where: str) -> Json:
    """All of them unless chosen; where no series has such a label (one cluster), `.*` finds those too."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": f"label_values({KNOWN_BY}{where}, {name})", "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"], "selected": True},
        "options": [],
    }


_CALCS = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: Mapping[Kind, Json] = {
    Kind.STAT: {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "center",
        "orientation": "auto",
        "textMode": "value",
        "reduceOptions": _CALCS,
    },
    Kind.LINES: {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    Kind.BARS: {
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "color",
        "showUnfilled": True,
        "reduceOptions": _CALCS,
    },
}
