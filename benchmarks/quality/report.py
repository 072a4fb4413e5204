"""quality.json, and the same as Markdown."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.fit.report import number
from benchmarks.quality.figures import Figure
from benchmarks.quality.parts import shots_name
from benchmarks.quality.rows import Row

Facts = Mapping[str, object]
Column = tuple[str, Callable[[Row], str]]


def write(out: Path, rows: Sequence[Row], figures: Sequence[Figure], facts: Facts) -> None:
    """quality.json and quality.md under `out`."""
    body = {"rows": [row.to_dict() for row in rows], "figures": [figure.to_dict() for figure in figures], **facts}
    (out / "quality.json").write_text(json.dumps(_finite(body), indent=1, sort_keys=True) + "\n")
    (out / "quality.md").write_text(markdown(rows, figures, facts))


def markdown(rows: Sequence[Row], figures: Sequence[Figure], facts: Facts) -> str:
    parts = ["# Quality: what a personal model is worth", _machine(facts), _legend(facts)]
    if figures:
        parts += ["## Figures", _figures(figures)]
    for dataset in dict.fromkeys(row.dataset for row in rows):
        parts.append(f"## {dataset}")
        chosen = [row for row in rows if row.dataset == dataset]
        for regime, shots in dict.fromkeys((row.regime, row.shots) for row in chosen):
            place = [row for row in chosen if (row.regime, row.shots) == (regime, shots)]
            parts += [f"### {_title(place[0])}", _table(place)]
    text = facts.get("text_rows")
    if isinstance(text, list) and text:
        parts += ["## Free text", _facts_table(text)]
    for title, name in (("Not measured", "skipped"), ("Failed", "failed")):
        found = facts.get(name)
        if isinstance(found, Mapping) and found:
            parts += [f"## {title}", "\n".join(f"* {what}: {why}" for what, why in found.items())]
    return "\n\n".join(parts) + "\n"


def _interval(row: Row, name: str, digits: int = 3) -> str:
    values = row.to_dict()
    mean, low, high = (values[name + end] for end in ("", "_low", "_high"))
    if not isinstance(mean, int | float):
        return ""
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _measure(name: str) -> Callable[[Row], str]:
    return lambda row: _interval(row, name)


COLUMNS: tuple[Column, ...] = (
    ("method", lambda r: r.method),
    ("accuracy", _measure("accuracy")),
    ("macro-F1", _measure("macro_f1")),
    ("RMSE", _measure("rmse")),
    ("NLL", _measure("nll")),
    ("ECE", _measure("ece")),
    ("NLL - generic", _measure("delta_nll")),
    ("NLL - label prior", _measure("delta_prior")),
    ("NLL - ours", _measure("delta_ours")),
    ("win / tie / loss", lambda r: "" if r.win is None else f"{_share(r.win)} / {_share(r.tie)} / {_share(r.loss)}"),
    ("own adapter", lambda r: _share(r.promoted_share)),
    ("s/user", lambda r: number(r.seconds_per_user)),
    ("bytes/user", lambda r: number(r.bytes_per_user)),
)


def _table(rows: Sequence[Row]) -> str:
    """Without the columns in which no row has anything."""
    cells = [[show(row) for _, show in COLUMNS] for row in rows]
    kept = [at for at in range(len(COLUMNS)) if any(line[at] for line in cells)]
    return _lines([COLUMNS[at][0] for at in kept], [[line[at] for at in kept] for line in cells])


def _title(row: Row) -> str:
    who = {"zero": "Newcomers, nothing learned", "full": "Users the Basis was trained on"}.get(row.regime, "Newcomers")
    rows = "" if row.regime == "zero" else f", {shots_name(row.shots)} examples ({row.learned:.1f} on average)"
    return f"{who}{rows}; {row.users} users, {row.tests:.1f} tests each, {row.seeds} seeds"


def _figures(figures: Sequence[Figure]) -> str:
    reached = {True: "yes", False: "no", None: ""}
    lines = [
        [one.figure, one.dataset, one.place, _span(one), one.needed, reached[one.reached], one.note] for one in figures
    ]
    return _lines(["figure", "data set", "where", "value", "needed", "reached", "note"], lines)


def _span(one: Figure) -> str:
    if one.value is None:
        return ""
    if one.low is None or one.high is None:
        return f"{one.value:.3f}"
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _machine(facts: Facts) -> str:
    machine = facts.get("machine")
    if not isinstance(machine, Mapping):
        return ""
    said = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None and name != "gpu")
    return f"Measured on: {said}, GPU {machine.get('gpu') or 'none'}."


def _legend(facts: Facts) -> str:
    settings = facts.get("settings")
    said = ", ".join(f"{n} {v}" for n, v in settings.items()) if isinstance(settings, Mapping) else ""
    return (
        "Every measure is the mean over users of a user's mean over seeds; intervals are 95 %, by a paired bootstrap "
        "over users. NLL is in nats; a difference below 0 is better than what is named. RMSE is the likeliest label's; "
        "ECE has ten bins of equal width over all tests, every user weighing the same. A user wins or loses where the "
        "mean of its paired test differences from generic is over 1.96 standard errors, and 0.001 nats, from 0. No "
        "answer is taken for less likely than 1e-6, and that is what a label costs that the fold's population never "
        "gave. A newcomer with fewer examples than the shots learns from all of them.\n\n"
        f"Settings: {said}."
    )


def _facts_table(facts: Sequence[object]) -> str:
    found = [fact for fact in facts if isinstance(fact, Mapping)]
    names = list(dict.fromkeys(name for fact in found for name in fact))
    return _lines(names, [[_cell(fact.get(name)) for name in names] for fact in found])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return number(value)
    return "" if value is None else str(value)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _lines(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _finite(value: object) -> object:
    """JSON has no NaN: null instead."""
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN
