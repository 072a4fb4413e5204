"""python -m benchmarks.calibration --out DIR [--quick]: measure; write calibration.json and calibration.md."""

import argparse
import json
import sys
from pathlib import Path

import torch

import plora
from benchmarks.calibration.measuring import QUICK, Sizes, measure
from benchmarks.calibration.report import document, facts
from benchmarks.fit.people import folder
from benchmarks.quality.source import DataError, read

DATASETS = ("un_votes", "jester")


def main(words: list[str]) -> int:
    """Exit status 0; 1 where figures do not keep what is promised; 2 where a file is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description="How sure answers may be.")
    parser.add_argument("--out", type=Path, required=True, help="folder for calibration.json and calibration.md")
    parser.add_argument("--data", type=Path, nargs="+", help=f"default {' and '.join(DATASETS)} of PLORA_DATA")
    parser.add_argument("--quick", action="store_true", help="few people, with wide intervals")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    files = given.data or [folder() / f"{name}.jsonl.gz" for name in DATASETS]
    sizes = QUICK if given.quick else Sizes()
    try:
        base = plora.load("minilm", device="cpu", max_tokens=sizes.max_tokens)
        found = [measure(base, read(file), sizes, given.seed) for file in files]
    except (DataError, plora.PLoRAError) as error:
        print(f"benchmarks.calibration: {error}", file=sys.stderr)
        return 2
    told = facts(found)
    given.out.mkdir(parents=True, exist_ok=True)
    figures = json.dumps({"seed": given.seed, "quick": given.quick, **told}, indent=1, allow_nan=False)
    (given.out / "calibration.json").write_text(figures + "\n")
    (given.out / "calibration.md").write_text(document(found))
    print(f"seed {given.seed}\n\n{document(found)}")
    broken = [each for one in found for each in one.broken]
    for each in broken:
        print(f"not kept: {each}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
