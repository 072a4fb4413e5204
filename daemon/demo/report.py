"""What the demo found, as a table for people and as JSON for everything else."""

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from daemon.demo.crowd import NEWCOMERS, POPULATION
from daemon.demo.measures import CONTROLS, Figures, mean_of, percentiles

TITLES = {"generic": "generic", "label_prior": "label prior", "wrong_user": "wrong user", "personal": "personal"}


@dataclass(frozen=True, slots=True)
class UserOutcome:
    """One user at the end: figures under every control, and what became of their runs."""

    stage: str
    told: int
    controls: Mapping[str, Figures]
    promoted: bool
    codes: tuple[str, ...]
    adapter_bytes: int
    event_to_adapter_s: float | None
    wrong_user_counts: bool

    @property
    def harmed(self) -> bool:
        """Whether this user's unseen examples are less likely under what is served than under the generic model."""
        return self.promoted and self.controls["personal"].nll > self.controls["generic"].nll


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything measured."""

    source: str
    ceiling: float | None
    users: Sequence[UserOutcome] = field(repr=False)
    posted_ms: Sequence[float] = field(repr=False)
    seconds: Mapping[str, float]

    def document(self) -> dict[str, object]:
        """The JSON document; per-user numbers are averaged, each user counting the same."""
        users = list(self.users)
        newcomers = [user for user in users if user.stage == NEWCOMERS]
        waits = [user.event_to_adapter_s for user in newcomers if user.event_to_adapter_s is not None]
        return {
            "source": self.source,
            "users": len(users),
            **_figures(users),
            "ceiling_accuracy": self.ceiling,
            "stages": {stage: _stage(users, stage) for stage in (POPULATION, NEWCOMERS)},
            "promoted": sum(user.promoted for user in users),
            "rejected": sum(not user.promoted for user in users),
            "reasons": dict(Counter(code for user in users for code in user.codes)),
            "harmed_share": sum(user.harmed for user in users) / max(1, len(users)),
            "adapter_bytes_max": max((user.adapter_bytes for user in users), default=0),
            "event_to_adapter_s": percentiles(waits),
            "post_event_ms": percentiles(self.posted_ms),
            "posted_events_timed": len(self.posted_ms),
            "seconds": dict(self.seconds),
            "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        }


def write(findings: Findings, path: Path) -> None:
    """The findings as JSON at `path`."""
    path.write_text(json.dumps(findings.document(), indent=2) + "\n")


def show(findings: Findings, url: str, console: Console) -> None:
    """The table, the decisions, and where to look next."""
    document = findings.document()
    table = Table(title=f"plora on {findings.source}: unseen events, asked through the API")
    for heading in ("users", "count", "examples each", "measure", *TITLES.values()):
        table.add_column(heading, justify="left" if heading in {"users", "measure"} else "right")
    for stage in (POPULATION, NEWCOMERS, "all"):
        users = [user for user in findings.users if stage in (user.stage, "all")]
        if users:
            _add(table, stage, users)
    console.print(table)
    if findings.ceiling is not None:
        console.print(f"  ceiling: {findings.ceiling:.3f} accuracy for someone who knows every weight and bias")
    console.print(f"  promoted {document['promoted']}, stayed generic {document['rejected']}; decisions:")
    for code, count in Counter(code for user in findings.users for code in user.codes).most_common():
        console.print(f"    {count:4d}  {code}")
    console.print(f"  users served worse than generic: {document['harmed_share']:.1%}")
    console.print(f"  sealed adapter: {document['adapter_bytes_max']} bytes at most")
    console.print(f"  last event to promoted adapter, s: {_ranks(document['event_to_adapter_s'])}")
    console.print(f"  POST /v1/events, ms: {_ranks(document['post_event_ms'])} ({len(findings.posted_ms)} events)")
    console.print(f"  seconds: {', '.join(f'{name} {value:.0f}' for name, value in findings.seconds.items())}")
    console.print("  look next: `make serve` leaves a daemon running; its API is at /docs, its metrics at /metrics")
    console.print(f"  (this one answered at {url} and has stopped)")


def _add(table: Table, stage: str, users: Sequence[UserOutcome]) -> None:
    each = sum(user.told for user in users) / len(users)
    means = _means(users)
    for measure in ("accuracy", "nll"):
        values = [f"{getattr(means[control], measure):.3f}" for control in CONTROLS]
        first = (stage, str(len(users)), f"{each:.0f}") if measure == "accuracy" else ("", "", "")
        table.add_row(*first, measure, *values, end_section=measure == "nll")


def _means(users: Sequence[UserOutcome]) -> dict[str, Figures]:
    """Wrong users count only where another user's adapter was there to be wrong; with none, generic stands in."""
    fooled = [user for user in users if user.wrong_user_counts] or users
    return {
        control: mean_of([user.controls[control] for user in (fooled if control == "wrong_user" else users)])
        for control in CONTROLS
    }


def _figures(users: Sequence[UserOutcome]) -> dict[str, object]:
    means = _means(users)
    return {
        "accuracy": {control: round(means[control].accuracy, 4) for control in CONTROLS},
        "nll": {control: round(means[control].nll, 4) for control in CONTROLS},
    }


def _stage(users: Sequence[UserOutcome], stage: str) -> dict[str, object]:
    chosen = [user for user in users if user.stage == stage]
    return {
        "users": len(chosen),
        "examples": sum(user.told for user in chosen),
        "unseen": sum(user.controls["generic"].examples for user in chosen),
        **_figures(chosen),
        "promoted": sum(user.promoted for user in chosen),
        "harmed_share": sum(user.harmed for user in chosen) / max(1, len(chosen)),
    }


def _ranks(ranks: object) -> str:
    return ", ".join(f"{name} {value}" for name, value in ranks.items()) if isinstance(ranks, dict) else str(ranks)
