"""Free text: causal-LM users, in bits per token of what they themselves wrote."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.bootstrap import Bootstrap
from benchmarks.quality.folds import TooFew
from benchmarks.quality.settings import Settings
from benchmarks.quality.source import DataSet
from benchmarks.quality.text import people, raws
from benchmarks.quality.text.measuring import measure
from benchmarks.quality.text.settings import TextSettings, of
from benchmarks.quality.text.tally import Line, rows

__all__ = ["measured", "run"]

SEED = 0
"""Of the bootstrap."""


def run(sources: Sequence[DataSet], out: Path, settings: Settings) -> list[Line]:
    """The rows of all free-text data sets; what is under `out` already is not measured again."""
    return measured(sources, out, of(settings))


def measured(sources: Sequence[DataSet], out: Path, settings: TextSettings) -> list[Line]:
    """As `run`. A data set of too few people has no rows."""
    found = []
    for data in sources:
        for seed in settings.seeds:
            try:
                group = people.make(data, seed, settings)
            except TooFew as error:
                _say(str(error))
                break
            raw = raws.read(raws.place(out, data.name, seed))
            if raw is None or raw.key != raws.key_of(group, settings):
                raw = measure(group, settings)
                raws.write(out, raw)
                _say(f"{data.name}, seed {seed}: free text measured")
            found.append(raw)
    return rows(found, Bootstrap(SEED, settings.draws))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
