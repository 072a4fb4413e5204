"""python -m benchmarks.quality.drift --out DIR [--data FILE ...]: users who change, followed event by event.

Every newcomer's events come in batches. Each batch is first predicted with what serves then (prequential, so nothing is
ever judged on what it has learned), then learned from. Stories: steady (a real order: the rows to learn from, then the
test texts), mirrored (simulated: every answer becomes its mirror image after 24 events) and replaced (real: after 24
events the answers of whoever agrees with the user least go on in the user's name). DIR/drift.json and DIR/drift.md.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import plora
from benchmarks.fit import machine
from benchmarks.quality import folds, source
from benchmarks.quality.bootstrap import Draws
from benchmarks.quality.drift.followers import Follower, Way
from benchmarks.quality.drift.streams import Story, streams
from benchmarks.quality.settings import Settings
from plora import Engine

BATCH = 4
Figures = dict[str, object]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.quality.drift", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--people", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args(words)
    torch.set_num_threads(told.threads)
    settings = Settings(seeds=(told.seed,), people=told.people)
    try:
        rows = [row for file in told.data for row in measure(file, told.seed, settings)]
    except source.DataError as error:
        sys.stderr.write(f"benchmarks.quality.drift: {error}\n")
        return 2
    told.out.mkdir(parents=True, exist_ok=True)
    body = {"rows": rows, "batch": BATCH, "machine": machine.describe(told.seed, told.threads)}
    (told.out / "drift.json").write_text(json.dumps(body, indent=1, sort_keys=True, default=str) + "\n")
    table = markdown(rows)
    (told.out / "drift.md").write_text(table)
    sys.stdout.write(table)
    return 0


def measure(file: Path, seed: int, settings: Settings) -> list[Figures]:
    """One Basis for the fold, every story, every way."""
    fold = folds.make(source.read(file), seed, settings)
    base = plora.load(settings.model, max_tokens=settings.max_tokens)
    chosen = settings.population
    basis = plora.train_population(base, [person.learn for person in fold.population], chosen).basis
    rows: list[Figures] = []
    engine = Engine(base, basis)
    with engine.keeping():
        for story in Story:
            told = streams(fold, story)
            known = [[one for one in stream.events if one.target in basis.labels] for stream in told]
            for way in Way if told else ():
                rows.append(
                    {"dataset": fold.dataset, "story": story.value, **_follow(way, engine, known, told[0].turn)}
                )
    return rows


def _follow(way: Way, engine: Engine, events: Sequence[Sequence[plora.Example]], turn: int) -> Figures:
    """The prequential losses of a way by batch, and what it did."""
    follower = Follower(way, engine, len(events))
    end = min(len(each) for each in events)
    steps: list[np.ndarray] = []
    for start in range(0, end - BATCH + 1, BATCH):
        own, _ = follower.losses([each[start : start + BATCH] for each in events])
        steps.append(np.array([float(losses.mean()) for losses in own]))
        follower.learn([each[: start + BATCH] for each in events], BATCH)
    table = np.stack(steps, 1)  # (users, batches)
    draws = Draws(len(events), 0, 2000)
    after = turn // BATCH
    parts = {"before": table[:, 2:after], "first_8": table[:, after : after + 2], "after_8": table[:, after + 2 :]}
    found: Figures = {"way": way.value, "users": len(events), "nll_by_batch": table.mean(0).tolist()}
    for name, part in parts.items():
        interval = draws.mean(part.mean(1))
        found |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    states = follower.states
    moves = sorted(move for state in states for move in state.moves)
    late = [min((at for at in state.begun_anew if at > turn), default=None) for state in states]
    noticed = [at - turn for at in late if at is not None]
    return found | {
        "rolled_back_before": _share(states, [any(at <= turn for at in s.rolled_back) for s in states]),
        "rolled_back_after": _share(states, [any(at > turn for at in s.rolled_back) for s in states]),
        "begun_anew_before": _share(states, [any(at <= turn for at in s.begun_anew) for s in states]),
        "begun_anew_after": len(noticed) / len(states),
        "events_to_begin_anew": statistics.median(noticed) if noticed else None,
        "moved_median": moves[len(moves) // 2] if moves else None,
        "moved_p99": moves[int(0.99 * (len(moves) - 1))] if moves else None,
    }


def _share(states: Sequence[object], flags: Sequence[bool]) -> float:
    return sum(flags) / len(states)


def markdown(rows: Sequence[Figures]) -> str:
    """One table for each data set and story."""
    lines = ["# Users who change", ""]
    for key in dict.fromkeys((row["dataset"], row["story"]) for row in rows):
        here = [row for row in rows if (row["dataset"], row["story"]) == key]
        lines += [f"## {key[0]}, {key[1]} ({here[0]['users']} newcomers)", ""]
        lines += [
            "| way | NLL, events 9-24 | events 25-32 | events 33-48 | rolled back before / after"
            " | begun anew before / after | events to begin anew | nats moved, median / p99 |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in here:
            cells = [_interval(row, name) for name in ("before", "first_8", "after_8")]
            cells.append(f"{row['rolled_back_before']:.0%} / {row['rolled_back_after']:.0%}")
            cells.append(f"{row['begun_anew_before']:.0%} / {row['begun_anew_after']:.0%}")
            cells.append("-" if row["events_to_begin_anew"] is None else f"{row['events_to_begin_anew']:.0f}")
            moved = (row["moved_median"], row["moved_p99"])
            cells.append("-" if None in moved else f"{moved[0]:.3f} / {moved[1]:.3f}")
            lines.append(f"| {row['way']} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _interval(row: Figures, name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
