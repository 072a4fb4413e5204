"""store.json, and the same as Markdown. A part that is not measured this time stays as it was, with its machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.store.plans import Plan
from benchmarks.store.rows import Cost, Rate

Machine = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured, and on what: `machines` by part, `rates` or `costs`."""

    rates: Sequence[Rate] = ()
    costs: Sequence[Cost] = ()
    plan: Plan | None = None
    machines: Mapping[str, Machine] = field(default_factory=dict)

    def over(self, earlier: "Found") -> "Found":
        """This, with the parts of `earlier` that it lacks."""
        return Found(
            self.rates or earlier.rates,
            self.costs or earlier.costs,
            self.plan or earlier.plan,
            {**earlier.machines, **self.machines},
        )


def write(out: Path, found: Found) -> Found:
    """store.json and store.md under `out`; what they tell."""
    out.mkdir(parents=True, exist_ok=True)
    whole = found.over(_read(out / "store.json"))
    body = {
        "rates": [each.to_dict() for each in whole.rates],
        "costs": [each.to_dict() for each in whole.costs],
        "plan": None if whole.plan is None else whole.plan.to_dict(),
        "machines": whole.machines,
    }
    (out / "store.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    (out / "store.md").write_text(markdown(whole))
    return whole


def _read(path: Path) -> Found:
    if not path.exists():
        return Found()
    told = json.loads(path.read_text())
    plan = told["plan"]
    return Found(
        [Rate(*(each[name] for name in Rate.__slots__)) for each in told["rates"]],
        [Cost(*(each[name] for name in Cost.__slots__)) for each in told["costs"]],
        None if plan is None else Plan(tuple(plan["scans"]), plan["read"], plan["found"], plan["buffers"]),
        told["machines"],
    )


def markdown(found: Found) -> str:
    parts = ["# The store: what it takes a second, and what a million users change"]
    if found.rates:
        parts += ["## Rates", _machine(found.machines["rates"]), _rates(found.rates)]
    if found.costs:
        parts += ["## Many users", _machine(found.machines["costs"]), _costs(found.costs)]
    if found.plan is not None:
        plan = found.plan
        parts.append(
            f"Who is due is found by {', '.join(plan.scans)}: {plan.read} rows read for {plan.found} users found, "
            f"{plan.buffers} pages touched."
        )
    return "\n\n".join(parts) + "\n"


def _rates(rates: Sequence[Rate]) -> str:
    databases = list(dict.fromkeys(each.database for each in rates))
    head = ["what", *(f"{name}, a second" for name in databases), "needed"]
    lines = []
    for what in dict.fromkeys(each.what for each in rates):
        here = {each.database: each for each in rates if each.what == what}
        floor = next(iter(here.values())).floor
        cells = [f"{here[name].per_s:,.0f}" if name in here else "" for name in databases]
        lines.append([what, *cells, "" if floor is None else f"{floor:,.0f}"])
    return _table(head, lines)


def _costs(costs: Sequence[Cost]) -> str:
    head = ["database", "one call", "few users, ms", "many users, ms", "ratio", "at most"]
    lines = [
        [
            each.database,
            each.what,
            f"{each.few_ms:.2f}",
            f"{each.many_ms:.2f}",
            f"{each.ratio:.2f}",
            "" if each.limit is None else f"{each.limit:g}",
        ]
        for each in costs
    ]
    return _table(head, lines)


def _machine(machine: Mapping[str, object]) -> str:
    return "Measured on: " + ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None) + "."


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))
