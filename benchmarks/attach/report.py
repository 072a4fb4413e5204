"""attach.json, and the same as Markdown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.attach.exact import Exact
from benchmarks.attach.loading import Growth, Wait
from benchmarks.attach.mixed import Mixed

P99_US, OF_LOAD, GROWTH, VECTORS, LOW_RANK, OF_PEFT, SOLO = 1_000.0, 1_000.0, 1.1, 0.98, 0.9, 1.2, 1e-5

VECTOR, LOW, LOAD = "sealed vector", "sealed rank 8", "PEFT load_adapter"


@dataclass(slots=True)
class Found:
    """All that was measured."""

    waits: list[Wait] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    mixed: list[Mixed] = field(default_factory=list)
    exact: list[Exact] = field(default_factory=list)
    from_peft: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bound:
    """What was to be reached, what was, and whether that is enough."""

    subject: str
    what: str
    needed: str
    found: float
    holds: bool


def bounds(found: Found) -> list[Bound]:
    """Every bound on every subject that was measured beside PEFT."""
    told = []
    for name in dict.fromkeys(wait.subject for wait in found.waits):
        waits = {wait.way: wait for wait in found.waits if wait.subject == name}
        mixed = {each.way: each for each in found.mixed if each.subject == name}
        told += [
            _most(name, f"{way} to usable, p99, microseconds", waits[way].p99_us, P99_US)
            for way in (VECTOR, LOW)
            if way in waits
        ]
        if LOAD in waits:
            told.append(
                _least(name, f"{LOAD} over {VECTOR}, medians", waits[LOAD].p50_us / waits[VECTOR].p50_us, OF_LOAD)
            )
        told += [
            _most(name, f"put among {each.held:,} over the first", each.put_ratio, GROWTH)
            for each in found.growth
            if each.subject == name
        ]
        for way, least in (("vectors", VECTORS), ("rank 8", LOW_RANK)):
            for form in ("folded", "speaker"):
                each = mixed.get(f"{form}, {way}")
                if each is not None:
                    told.append(_least(name, f"mixed batch, {each.way}, over the bare model", each.of_bare, least))
                    if each.of_peft is not None:
                        told.append(_least(name, f"mixed batch, {each.way}, over PEFT's", each.of_peft, OF_PEFT))
        for one in found.exact:
            if one.subject == name:
                told += [
                    _most(name, f"{one.way}: solo against mixed", one.solo, SOLO),
                    _most(name, f"{one.way}: one place, other strangers", one.strangers, 0.0),
                    _most(name, f"{one.way}: after another's NaN", one.broken, 0.0),
                ]
    return told


def write(out: Path, found: Found, machine: Mapping[str, object]) -> tuple[str, bool]:
    """Both files under `out`: the Markdown, and whether every bound holds."""
    out.mkdir(parents=True, exist_ok=True)
    told = bounds(found)
    body = {**asdict(found), "bounds": [asdict(each) for each in told], "machine": machine}
    (out / "attach.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    text = markdown(found, told, machine)
    (out / "attach.md").write_text(text)
    return text, all(each.holds for each in told)


def markdown(found: Found, told: Sequence[Bound], machine: Mapping[str, object]) -> str:
    measured = "Measured on: " + ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    waits = [
        [each.subject, each.way, f"{each.times:,}", _time(each.p50_us), _time(each.p99_us), f"{each.size_bytes:,}"]
        for each in found.waits
    ]
    growth = [
        [
            each.subject,
            f"{each.held:,}",
            _time(each.first_us),
            _time(each.last_us),
            f"{each.put_ratio:.2f}",
            f"{each.batch_ratio:.2f}",
        ]
        for each in found.growth
    ]
    mixed = [
        [
            each.subject,
            each.way,
            f"{each.batch_ms:.1f}",
            f"{each.of_bare:.2f}",
            "" if each.of_peft is None else f"{each.of_peft:.2f}",
        ]
        for each in found.mixed
    ]
    exact = [
        [
            each.subject,
            each.way,
            *(f"{value:.1e}" for value in (each.solo, each.strangers, each.broken, each.moved, each.size)),
        ]
        for each in found.exact
    ]
    peft = [f"{name}: {value:.1e}" for name, value in found.from_peft.items()]
    return "\n\n".join(
        [
            "# Attaching users",
            measured + ".",
            "## Until a user is in the next batch",
            _table(["model", "way", "times", "p50", "p99", "bytes"], waits),
            _table(
                ["model", "held", "put, none held", "put, that many held", "ratio", "ratio of taking 64 rows"], growth
            ),
            "## 64 users in a batch",
            _table(["model", "way", "ms", "throughput over bare", "over PEFT mixed"], mixed),
            "## The same answers",
            _table(
                [
                    "model",
                    "way",
                    "alone against mixed",
                    "same place, other strangers",
                    "beside a user of NaN",
                    "users move",
                    "largest logit",
                ],
                exact,
            ),
            f"Rank 8 against PEFT's own mixed batch, largest difference of logits: {', '.join(peft)}." if peft else "",
            "## What was to be reached",
            _table(
                ["model", "figure", "needed", "found", "holds"],
                [
                    [each.subject, each.what, each.needed, f"{each.found:.3g}", "yes" if each.holds else "**no**"]
                    for each in told
                ],
            ),
            "",
        ]
    )


def _most(subject: str, what: str, found: float, bound: float) -> Bound:
    return Bound(subject, what, f"at most {bound:g}", found, found <= bound)


def _least(subject: str, what: str, found: float, bound: float) -> Bound:
    return Bound(subject, what, f"at least {bound:g}", found, found >= bound)


def _time(microseconds: float) -> str:
    return f"{microseconds / 1e3:,.2f} ms" if microseconds >= 1e3 else f"{microseconds:.1f} us"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
