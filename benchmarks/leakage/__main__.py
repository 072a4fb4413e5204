"""python -m benchmarks.leakage --out DIR [--quick]: measure; write leakage.json and leakage.md."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

import plora
from benchmarks.fit.people import folder
from benchmarks.leakage.audit import audit, basis_audit
from benchmarks.leakage.canaries import canaries
from benchmarks.leakage.cost import costs
from benchmarks.leakage.people import people
from benchmarks.leakage.report import Found, document, facts
from benchmarks.quality.source import DataError, DataSet, read
from plora import BaseModel, Engine, Example

EPSILONS = (None, math.inf, 8.0, 4.0, 2.0, 1.0)
DATASETS = ("un_votes", "jester")


@dataclass(frozen=True, slots=True)
class Sizes:
    """`learn` rows of its own a newcomer of the audit learns beside its canaries; noise is drawn `draws` times."""

    population: int = 60
    rows: int = 48
    newcomers: int = 50
    canaries: int = 10
    learn: int = 22
    draws: int = 5
    max_tokens: int = 64


QUICK = Sizes(population=20, rows=16, newcomers=16, canaries=10, learn=8, draws=1)


def main(words: list[str]) -> int:
    """Exit status 0; 1 where a user's adapter knows another's canaries; 2 where a file is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leakage", description="What a personal model gives away."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for leakage.json and leakage.md")
    parser.add_argument("--data", type=Path, nargs="+", help=f"default {' and '.join(DATASETS)} of PLORA_DATA")
    parser.add_argument("--quick", action="store_true", help="few people, with wide intervals")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    files = given.data or [folder() / f"{name}.jsonl.gz" for name in DATASETS]
    try:
        found = [measure(read(file), QUICK if given.quick else Sizes(), given.seed) for file in files]
    except (DataError, plora.PLoRAError) as error:
        print(f"benchmarks.leakage: {error}", file=sys.stderr)
        return 2
    told = facts(found)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "leakage.json").write_text(json.dumps({"seed": given.seed, **told}, indent=1, allow_nan=False))
    (given.out / "leakage.md").write_text(document(found))
    print(f"seed {given.seed}\n\n{document(found)}")
    return 0 if told["isolated"] else 1


def measure(data: DataSet, sizes: Sizes, seed: int) -> Found:
    """All figures of one data set."""
    begun = perf_counter()
    everybody = people(data, seed)
    population, newcomers = everybody[: sizes.population], everybody[sizes.population :][: sizes.newcomers]
    base = plora.load("minilm", device="cpu", max_tokens=sizes.max_tokens)
    plain = [each.learn[: sizes.rows] for each in population]
    engine = _engine(base, plain)
    labels = engine.basis.labels
    marked = canaries(len(newcomers), sizes.canaries, labels, seed)
    with engine.keeping():
        told, missed = audit(engine, [each.learn[: sizes.learn] for each in newcomers], marked, EPSILONS)
        cost = costs(engine, newcomers, EPSILONS, sizes.draws)
    hidden = canaries(len(population), sizes.canaries, labels, seed + 1)
    with_them = _engine(base, [[*rows, *one.learned] for rows, one in zip(plain, hidden, strict=True)])
    return Found(
        name=data.name,
        people=len(newcomers),
        canaries=sizes.canaries,
        seconds=perf_counter() - begun,
        missed=missed,
        told=tuple(told),
        basis=basis_audit(with_them, engine, hidden),
        costs=tuple(cost),
    )


def _engine(base: BaseModel, population: Sequence[Sequence[Example]]) -> Engine:
    return Engine(base, plora.train_population(base, population).basis)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
