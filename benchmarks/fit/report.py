"""fit.json, and the same as Markdown."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.fit.rows import Row

Facts = Mapping[str, object]
Column = tuple[str, Callable[[Row], str]]

FRONTIER: tuple[Column, ...] = (
    ("mode", lambda r: r.mode),
    ("Basis", lambda r: r.basis),
    ("precision", lambda r: r.precision),
    ("users", lambda r: str(r.users)),
    ("users/s", lambda r: number(r.users_per_s)),
    ("x PEFT", lambda r: number(r.ratio_to_peft)),
    ("x Adam", lambda r: number(r.ratio_to_adam)),
    ("passes", lambda r: number(r.passes)),
    ("held-out NLL", lambda r: _interval(r.nll, r.nll_low, r.nll_high)),
    ("minus Adam's", lambda r: _interval(r.delta_adam, r.delta_adam_low, r.delta_adam_high)),
    ("peak MB", lambda r: number(r.peak_mb)),
    ("of limit", lambda r: number(r.fraction_of_limit)),
    ("of full limit", lambda r: number(r.fraction_of_full_limit)),
    ("note", lambda r: r.note),
)
OTHERS: tuple[Column, ...] = (
    ("mode", lambda r: r.mode),
    ("Basis", lambda r: r.basis),
    ("precision", lambda r: r.precision),
    ("users", lambda r: str(r.users)),
    ("examples", lambda r: str(r.examples_per_user)),
    ("users/s", lambda r: number(r.users_per_s)),
    ("s/user", lambda r: number(r.seconds_per_user)),
    ("x PEFT", lambda r: number(r.ratio_to_peft)),
    ("passes", lambda r: number(r.passes)),
    ("held-out NLL", lambda r: _interval(r.nll, r.nll_low, r.nll_high)),
    ("peak MB", lambda r: number(r.peak_mb)),
    ("of limit", lambda r: number(r.fraction_of_limit)),
    ("note", lambda r: r.note),
)
TITLES = {
    "derivatives": "Derivatives of one micro-batch of 16 examples: backward passes, pseudo-users, forward mode",
    "refit": "One new event: refit from stored statistics, and the full fit again",
    "growth": "One call, from one user to many",
    "decoder": "A decoder of random weights: throughput only",
}


def write(out: Path, rows: Sequence[Row], facts: Facts) -> None:
    """fit.json and fit.md under `out`."""
    body = {"rows": [row.to_dict() for row in rows], **facts}
    (out / "fit.json").write_text(json.dumps(_finite(body), indent=1, sort_keys=True) + "\n")
    (out / "fit.md").write_text(markdown(rows, facts))


def markdown(rows: Sequence[Row], facts: Facts) -> str:
    parts = ["# Fitting: what a user costs, and what it is worth", _machine(facts)]
    settings = dict.fromkeys((row.dataset, row.examples_per_user) for row in rows if row.part == "frontier")
    for dataset, examples in settings:
        chosen = [r for r in rows if r.part == "frontier" and (r.dataset, r.examples_per_user) == (dataset, examples)]
        parts += [f"## {dataset}, {examples} examples a user{_sizes(chosen[0])}", table(FRONTIER, chosen)]
    for part, title in TITLES.items():
        chosen = [row for row in rows if row.part == part]
        if chosen:
            parts += [f"## {title}", table(OTHERS, chosen)]
    scale = facts.get("scale")
    if isinstance(scale, list) and scale:
        parts += ["## Scale-out", _facts_table(scale)]
    skipped = facts.get("skipped")
    if isinstance(skipped, Mapping) and skipped:
        parts += ["## Not measured", "\n".join(f"* {what}: {why}" for what, why in skipped.items())]
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A Markdown table without the columns in which no row has anything."""
    cells = [[show(row) for _, show in columns] for row in rows]
    kept = [at for at in range(len(columns)) if any(line[at] for line in cells)]
    head = [columns[at][0] for at in kept]
    return _lines(head, [[line[at] for at in kept] for line in cells])


def number(value: float | None) -> str:
    """Three significant digits, or nothing."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _interval(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None:
        return ""
    if low is None or high is None or low != low:  # noqa: PLR0124 - NaN
        return f"{mean:.3f}"
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _sizes(row: Row) -> str:
    if row.tokens_per_user is None or row.examples_mean is None:
        return ""
    distinct = f", {row.distinct_texts:.0%} of a round's texts different" if row.distinct_texts is not None else ""
    return f" ({row.examples_mean:.1f} on average, {row.tokens_per_user:.0f} tokens{distinct})"


def _machine(facts: Facts) -> str:
    machine = facts.get("machine")
    if not isinstance(machine, Mapping):
        return ""
    said = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None and name != "gpu")
    return f"Measured on: {said}, GPU {machine.get('gpu') or 'none'}. Intervals are 95 %, over users."


def _facts_table(facts: Sequence[object]) -> str:
    found = [fact for fact in facts if isinstance(fact, Mapping)]
    names = list(dict.fromkeys(name for fact in found for name in fact))
    return _lines(names, [[_cell(fact.get(name)) for name in names] for fact in found])


def _cell(value: object) -> str:
    return number(float(value)) if isinstance(value, int | float) else str(value or "")


def _lines(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _finite(value: object) -> object:
    """JSON has no NaN: null instead."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN
