"""predict.json, and the same as Markdown."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.predict.load import CONNECTIONS, Latency
from benchmarks.predict.soak import Soak

RATIO, VISIBLE_S = 1.2, 2.0


@dataclass(frozen=True, slots=True)
class Written:
    """The Markdown, and whether every bound held."""

    told: str
    holds: bool


def write(out: Path, one: Latency, many: Latency, lasted: Soak, machine: Mapping[str, object]) -> Written:
    """Both files under `out`."""
    ratio = round(many.p99_ms / one.p99_ms, 3)
    tally = lasted.tally
    holds = {
        "p99_ratio": ratio <= RATIO,
        "answers": tally.wrong == tally.stale == 0 and not one.failed and not many.failed,
        "visible": lasted.visible_p99_s <= VISIBLE_S,
    }
    soaked = {
        **asdict(tally),
        "asked": tally.asked,
        "promoted": lasted.promoted,
        "rolled_back": lasted.rolled_back,
        "forgotten": lasted.forgotten,
        "visible_p99_s": round(lasted.visible_p99_s, 3),
        "visible_max_s": round(max(lasted.visible_s), 3),
        "per_second": round(tally.asked / lasted.seconds, 1),
    }
    body = {
        "latency": [asdict(one), asdict(many)],
        "p99_ratio": ratio,
        "soak": soaked,
        "holds": holds,
        "machine": machine,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "predict.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    told = _markdown(one, many, ratio, soaked, machine)
    (out / "predict.md").write_text(told)
    return Written(told, all(holds.values()))


def _markdown(
    one: Latency, many: Latency, ratio: float, soaked: Mapping[str, float], machine: Mapping[str, object]
) -> str:
    rows = [
        f"| {each.users} | {each.requests} | {each.failed} | {each.p50_ms:.1f} | {each.p95_ms:.1f} | {each.p99_ms:.1f} "
        f"| {each.per_second:.0f} |"
        for each in (one, many)
    ]
    head = "| distinct users | requests | failed | p50, ms | p95, ms | p99, ms | a second |"
    measured = "Measured on: " + ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    told = (
        f"While {soaked['promoted']} versions were promoted, {soaked['rolled_back']} users rolled back and "
        f"{soaked['forgotten']} forgotten, {soaked['asked']} requests were answered: {soaked['wrong']} by a wrong "
        f"adapter, {soaked['stale']} by one that had ceased to serve, {soaked['failed']} not at all. The first answer "
        f"after a move came within {soaked['visible_p99_s']} s (p99; {soaked['visible_max_s']} s the longest) and "
        "showed it."
    )
    return "\n\n".join(
        [
            "# Predictions under load",
            measured + ".",
            f"One text each, {CONNECTIONS} connections that ask again at once, in turns:",
            "\n".join([head, "|---:" * 7 + "|", *rows]),
            f"p99 with many over p99 with one: {ratio:.2f} (at most {RATIO}).",
            told,
            "",
        ]
    )
