"""The rows of free text as Markdown."""

from collections.abc import Sequence

from benchmarks.quality.parts import shots_name
from benchmarks.quality.text.tally import Line

COLUMNS = (
    "learned from",
    "method",
    "bits per token",
    "less generic",
    "less model",
    "less cache",
    "less ours",
    "s/user",
    "bytes",
)


def markdown(lines: Sequence[Line]) -> str:
    """A table for each data set; a difference below 0 is better than what it is compared with."""
    parts = []
    for dataset in dict.fromkeys(str(line["dataset"]) for line in lines):
        own = [line for line in lines if line["dataset"] == dataset]
        users, seeds = own[0]["users"], own[0]["seeds"]
        parts.append(f"### {dataset}: {users} newcomers, {seeds} folds\n\n{_table(own)}\n\n{_personal(own)}")
    return "\n\n".join(parts) + "\n"


def _table(lines: Sequence[Line]) -> str:
    head = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS)
    return "\n".join([head, *(_row(line) for line in lines)])


def _row(line: Line) -> str:
    figures = [_figure(line, name) for name in ("bits", "delta_generic", "delta_model", "delta_cache", "delta_ours")]
    shots = shots_name(int(line["shots"] or 0))
    cells = [
        shots,
        str(line["method"]),
        *figures,
        _number(line["seconds_per_user"], 3),
        f"{line['bytes_per_user']:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _figure(line: Line, name: str) -> str:
    if line[name] is None:
        return ""
    return f"{_number(line[name], 3)} [{_number(line[f'{name}_low'], 3)}, {_number(line[f'{name}_high'], 3)}]"


def _number(value: str | float | None, digits: int) -> str:
    return "" if value is None else f"{float(value):.{digits}f}"


def _personal(lines: Sequence[Line]) -> str:
    """How much of our gain over generic is gone with another user's vector."""
    said = []
    for line in lines:
        ours = next((o for o in lines if o["method"] == "ours" and o["shots"] == line["shots"]), None)
        if line["method"] != "wrong_user" or ours is None:
            continue
        gain, wrong = -float(ours["delta_generic"] or 0), -float(line["delta_generic"] or 0)
        if gain > 0:
            said.append(f"{shots_name(int(line['shots'] or 0))}: {100 * (1 - wrong / gain):.0f} %")
    return "Of our gain over generic, gone with a wrong user's vector: " + "; ".join(said) if said else ""
