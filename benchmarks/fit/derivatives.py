"""Three ways to the derivatives of a step: backward passes, pseudo-users, forward mode; in turns, on the same batch.

A classifier with C labels has C - 1 free numbers, and as many backward passes give all d derivatives of each.
Pseudo-users and forward mode take one forward for each of the d coordinates, however many answers there are.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.fit.frontier import Comparison
from benchmarks.fit.plan import Plan
from benchmarks.fit.rows import Row
from benchmarks.fit.stats import median
from benchmarks.fit.stopwatch import Turn, take_turns
from plora import Engine
from plora.encoder import Encoder

ROWS, LENGTH, ROUNDS = 16, 32, 5


def derivatives(plan: Plan, comparisons: Sequence[Comparison]) -> list[Row]:
    """Seconds for one batch of 16 examples of 32 tokens, by way and number of free numbers, on every Basis at hand."""
    rows: list[Row] = []
    for part, made in comparisons[0].bases.items():
        engine = Engine(comparisons[0].source.base, made.basis)
        if engine.encoder is None:
            continue
        ways = _ways(engine, engine.encoder)
        taken = take_turns([Turn(name, partial(_call, work)) for name, work in ways.items()], ROUNDS)
        for name, each in taken.items():
            seconds = median([one.seconds(plan.clock) for one in each])
            rows.append(
                Row(
                    part="derivatives",
                    mode=name,
                    users=1,
                    examples_per_user=ROWS,
                    basis=part,
                    seconds_per_user=seconds,
                    users_per_s=1 / seconds,
                    rounds=ROUNDS,
                )
            )
    return rows


def _ways(engine: Engine, encoder: Encoder) -> dict[str, Callable[[], None]]:
    d = engine.basis.spec.dimensions
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 20_000, (ROWS, LENGTH), generator=draw)
    mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
    start = engine.first_block
    with torch.no_grad():
        hidden = encoder.begin(ids, mask, start)
    vectors, steps = torch.zeros(ROWS, d), torch.eye(d)

    def model(at: Tensor) -> Tensor:
        return encoder.finish(hidden, mask, at, start)

    def backward(times: int) -> None:
        leaf = vectors.clone().requires_grad_()
        free = model(leaf)
        for k in range(times):
            torch.autograd.grad(free[:, k % free.shape[1]].sum(), leaf, retain_graph=k < times - 1)

    def pseudo_users() -> None:
        with torch.no_grad():
            here = model(vectors)
            for step in steps:
                (model(vectors + 0.05 * step) - here).div_(0.05)

    def forward_mode() -> None:
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no forward mode
            for step in steps:
                jvp(model, (vectors,), (step.expand(ROWS, -1).contiguous(),))

    return {
        "backward x 1": partial(backward, 1),
        "backward x 2": partial(backward, 2),
        "backward x 4": partial(backward, 4),
        f"pseudo-users x {d}": pseudo_users,
        f"forward mode x {d}": forward_mode,
    }


def _call(work: Callable[[], None], _: int) -> None:
    work()
