"""What follows from fit.json for machines that were not at hand: python -m benchmarks.fit.arithmetic fit.json

Every figure is a measured unit cost, a published number or a count from the model's shape, multiplied; which of these
it is stands in its line.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fit.report import number

H200_TFLOPS = 989.0
"""bf16, dense, as NVIDIA's data sheet states it."""

USERS = 1_000_000
EXAMPLES = 16


@dataclass(frozen=True, slots=True)
class Model:
    """`weights` are those that a token meets in a pass: the blocks', without the embedding table."""

    name: str
    weights: float

    def flop(self, tokens: float, passes: float) -> float:
        """2 FLOP a weight and token forward, and 2 backward to the input: no gradient of weights is taken."""
        return 4 * self.weights * tokens * passes


MINILM = Model("MiniLM (22 M)", 6 * 12 * 384**2)
LARGER = (Model("1 B decoder", 1e9), Model("8 B decoder", 8e9))

Line = Mapping[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class Unit:
    """The measured unit costs of one mode: seconds, passes and tokens a user."""

    mode: str
    basis: str
    precision: str
    seconds: float
    passes: float
    tokens: float


def units(rows: Sequence[Line], dataset: str) -> list[Unit]:
    """plora's modes on `dataset` at EXAMPLES examples, fastest first."""
    found = []
    for row in rows:
        chosen = row["part"] == "frontier" and row["dataset"] == dataset and row["examples_per_user"] == EXAMPLES
        if chosen and str(row["mode"]).startswith("newton"):
            seconds, passes, tokens = (_float(row[name]) for name in ("seconds_per_user", "passes", "tokens_per_user"))
            found.append(Unit(str(row["mode"]), str(row["basis"]), str(row["precision"]), seconds, passes, tokens))
    return sorted(found, key=lambda unit: unit.seconds)


def utilisation(rows: Sequence[Line], machine: Line, dataset: str, precision: str) -> float | None:
    """The share of a large matrix product's FLOP/s that bare passes reach on the measured machine."""
    for row in rows:
        same = (row["dataset"], row["mode"], row["basis"], row["precision"]) == (dataset, "limit", "all", precision)
        if same and row["examples_per_user"] == EXAMPLES:
            flops = MINILM.flop(_float(row["tokens_per_user"]), 1.0) / _float(row["seconds_per_user"])
            return flops / (_float(machine[f"gemm_gflops_{precision}"]) * 1e9)
    return None


def compute(body: Mapping[str, object]) -> str:
    """Markdown: a million users on the measured machine, in bytes, and on one H200."""
    rows, machine = _lines(body["rows"]), _line(body["machine"])
    datasets = list(dict.fromkeys(str(row["dataset"]) for row in rows if row["part"] == "frontier"))
    if not datasets:
        return "Nothing was measured.\n"
    dataset, cores = datasets[0], _float(machine["cores"])
    found = units(rows, dataset)
    parts = [
        f"From `{machine['command']}` on {machine['cpu']}, {dataset}, {EXAMPLES} examples a user.",
        "## A million users on the measured machine",
        "Measured seconds on one core, multiplied; that cores add up is assumed.",
        _table(
            ("mode", "Basis", "precision", "s/user, one core", f"hours for a million, {cores:.0f} cores"),
            [
                (u.mode, u.basis, u.precision, number(u.seconds), number(u.seconds * USERS / cores / 3600))
                for u in found
            ],
        ),
        _stored(body),
        _h200(rows, machine, dataset, found) if body.get("model") == "minilm" else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stored(body: Mapping[str, object]) -> str:
    sizes = body.get("bytes")
    if not isinstance(sizes, Mapping) or not sizes:
        return ""
    lines = [(str(name), f"{each}", number(each * USERS / 1e9)) for name, each in sizes.items()]
    return "## A million users in bytes\n\n" + _table(("what", "bytes a user, measured", "GB for a million"), lines)


def _h200(rows: Sequence[Line], machine: Line, dataset: str, found: Sequence[Unit]) -> str:
    share = utilisation(rows, machine, dataset, "bf16")
    whole = [unit for unit in found if unit.basis == "all" and unit.precision == "bf16"] or list(found[:1])
    if share is None or not whole:
        return ""
    unit = whole[0]
    lines = []
    for model in (MINILM, *LARGER):
        flop = model.flop(unit.tokens, unit.passes)
        each = H200_TFLOPS * 1e12 * share / flop
        lines.append((model.name, number(flop / 1e12), number(each), number(USERS / each / 3600)))
    said = (
        f"No GPU was at hand: this is arithmetic. Measured: {unit.passes:.3g} passes over {unit.tokens:.0f} tokens a "
        f"user ({unit.mode}); bare passes reach {share:.0%} of a large matrix product's speed on the CPU. Published: "
        f"{H200_TFLOPS:.0f} TFLOP/s. Assumed: that a GPU kept full reaches the same share. Every pass counts over all "
        "blocks, as if all were adapted."
    )
    head = ("model", "TFLOP/user", "users/s", "hours for a million")
    return f"## One H200, on paper\n\n{said}\n\n" + _table(head, lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def _line(value: object) -> Line:
    return value if isinstance(value, Mapping) else {}


def _lines(value: object) -> list[Line]:
    return [_line(one) for one in value] if isinstance(value, list) else []


def _float(value: str | int | float | None) -> float:
    return float(value) if value is not None else float("nan")


if __name__ == "__main__":
    print(compute(json.loads(Path(sys.argv[1]).read_text())))
