"""python -m benchmarks.quality.text --out DIR [--data FILE ...]: free text alone; writes text.json and text.md."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.quality.settings import Settings, quick
from benchmarks.quality.source import DataError, find, read_all
from benchmarks.quality.text import measured
from benchmarks.quality.text.report import markdown
from benchmarks.quality.text.settings import of
from plora import PLoRAError


def main(words: list[str]) -> int:
    """Exit status 0; 1 where nothing was measured; 2 where the command line, a file or the model is wrong."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = _parser().parse_args(words)
    torch.set_num_threads(given.threads)
    settings = of(quick() if given.quick else Settings(), given.text_model)
    if given.seeds:
        settings = replace(settings, seeds=tuple(int(word) for word in given.seeds.split(",")))
    try:
        sources = [data for data in read_all(find(given.data)) if data.free_text]
        given.out.mkdir(parents=True, exist_ok=True)
        lines = measured(sources, given.out, settings)
    except (DataError, PLoRAError) as error:
        print(f"benchmarks.quality.text: {error}", file=sys.stderr)
        return 2
    (given.out / "text.json").write_text(json.dumps({"rows": lines}, indent=1, sort_keys=True) + "\n")
    (given.out / "text.md").write_text(markdown(lines))
    print(markdown(lines))
    return 0 if lines else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.text", description="Users who write.")
    parser.add_argument("--out", type=Path, required=True, help="folder for results; a run goes on with what is there")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help=".jsonl(.gz) files; default all of PLORA_DATA")
    parser.add_argument("--text-model", default="", help="folder or Hugging Face id of a causal LM; default: train one")
    parser.add_argument("--seeds", help="default 10,11,12: three that follow each other make everybody a newcomer once")
    parser.add_argument("--quick", action="store_true", help="one fold of few people, with wide intervals")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
