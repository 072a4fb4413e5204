"""One new event for a user whose statistics are kept: the refit, and the full fit again, in turns."""

from collections.abc import Sequence
from dataclasses import replace

import torch

import plora
from benchmarks.fit.frontier import Comparison
from benchmarks.fit.judging import losses
from benchmarks.fit.ours import fitted_or_raise
from benchmarks.fit.people import User
from benchmarks.fit.plan import Plan
from benchmarks.fit.rows import Row
from benchmarks.fit.stats import bootstrap, median, paired
from benchmarks.fit.stopwatch import Taken, Turn, every_core, take_turns
from plora import Basis, Engine, Example, FitSettings, Fitted, Refit

EXAMPLES = 32
ROUNDS = 3
FULL, INCREMENTAL = "full-refit", "refit"


class Updates:
    """Users who have learned from EXAMPLES and now have one more, on one Basis.

    Each text gets its user's number: what users share would be run once in a full fit, and flatter it.
    """

    def __init__(self, comparison: Comparison, part: str, users: int) -> None:
        self.base = comparison.source.base
        self.basis: Basis = comparison.bases[part].basis
        able = [user for user in comparison.crowd.reported if len(user.learned) > EXAMPLES]
        self.users: Sequence[User] = able[:users]
        self.learned = [
            [Example(f"{each.text} {at}", each.target) for each in user.first(EXAMPLES + 1)]
            for at, user in enumerate(self.users)
        ]
        self.engine = Engine(self.base, self.basis)
        before = plora.fit(self.base, self.basis, [own[:EXAMPLES] for own in self.learned], engine=self.engine)
        self.before = [fitted_or_raise(one, INCREMENTAL) for one in before]

    def sizes(self) -> dict[str, int]:
        """Bytes of what is kept for one user, before sealing."""
        known = next((one for one in self.before if one.statistics is not None), self.before[0])
        found = {"adapter": len(plora.dumps(known.adapter))}
        if known.statistics is not None:
            found["statistics"] = len(plora.dumps(known.statistics))
        return found

    def again(self, _: int) -> list[Fitted]:
        """Everything once more, the new event included."""
        made = plora.fit(self.base, self.basis, self.learned, FitSettings(), engine=self.engine)
        return [fitted_or_raise(one, FULL) for one in made]

    def increment(self, _: int) -> list[Fitted]:
        """The new event alone; who has moved keeps the vector from before."""
        asked = [
            Refit(one.statistics, own[EXAMPLES:])
            for one, own in zip(self.before, self.learned, strict=True)
            if one.statistics is not None
        ]
        made = plora.refit(self.base, self.basis, asked, FitSettings(), engine=self.engine)
        return [one if isinstance(one, Fitted) else old for one, old in zip(made, self.before, strict=True)]


def refits(plan: Plan, comparison: Comparison, part: str) -> tuple[list[Row], dict[str, int]]:
    """A row for the full fit of one example more, one for the refit, and the bytes kept for a user."""
    updates = Updates(comparison, part, plan.refit_users)
    turns = [Turn(FULL, updates.again), Turn(INCREMENTAL, updates.increment)]
    taken = take_turns(turns, ROUNDS)
    held_out = [user.held_out for user in updates.users]
    tables = [torch.stack([one.adapter.vector for one in taken[name][0].outcome]) for name in (FULL, INCREMENTAL)]
    with every_core():
        judged = dict(zip((FULL, INCREMENTAL), losses(updates.base, updates.basis, held_out, tables), strict=True))
    moved = sum(one is old for one, old in zip(taken[INCREMENTAL][0].outcome, updates.before, strict=True))
    full = [one.seconds(plan.clock) for one in taken[FULL]]
    own = [one.seconds(plan.clock) for one in taken[INCREMENTAL]]
    gap = paired(judged[INCREMENTAL], judged[FULL], plan.seed)
    faster = median([a / b for a, b in zip(full, own, strict=True)])
    note = (
        f"{faster:.1f} x the full fit's users/s; NLL {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]; moved {moved}"
    )
    rows = [_row(plan, name, taken[name], judged[name], note if name == INCREMENTAL else "") for name in taken]
    return [replace(row, dataset=comparison.crowd.dataset, basis=part) for row in rows], updates.sizes()


def _row(plan: Plan, mode: str, taken: Sequence[Taken[list[Fitted]]], judged: list[float], note: str) -> Row:
    users = len(judged)
    seconds = median([one.seconds(plan.clock) / users for one in taken])
    nll = bootstrap(judged, plan.seed)
    return Row(
        part="refit",
        mode=mode,
        users=users,
        examples_per_user=EXAMPLES + 1,
        users_per_s=1 / seconds,
        seconds_per_user=seconds,
        wall_s_per_user=median([one.wall_s / users for one in taken]),
        cpu_s_per_user=median([one.cpu_s / users for one in taken]),
        rounds=len(taken),
        passes=sum(one.passes for one in taken[0].outcome) / users,
        nll=nll.mean,
        nll_low=nll.low,
        nll_high=nll.high,
        note=note,
    )
