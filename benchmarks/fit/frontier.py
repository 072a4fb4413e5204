"""The frontier: what a user costs by each mode, and what it is worth on examples that no mode has seen.

Every mode takes its turn in every round of one process. A round has users of its own, so that over all rounds each
reported user is fitted once by each mode and the losses cost no fit beside the timed ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.fit import ours, peers
from benchmarks.fit.bases import Trained, trained
from benchmarks.fit.floor import Floor
from benchmarks.fit.judging import losses
from benchmarks.fit.limits import Limits
from benchmarks.fit.modes import Cohort, Made, Mode
from benchmarks.fit.people import Crowd, User
from benchmarks.fit.plan import Plan, Setting
from benchmarks.fit.source import Source
from benchmarks.fit.stopping import best_steps
from benchmarks.fit.stopwatch import Taken, Turn, every_core, take_turns
from plora import FitSettings


@dataclass(frozen=True, slots=True)
class Measured:
    """A mode's measurements, one for each round, and the mean held-out loss of each user it was given."""

    mode: Mode
    taken: list[Taken[Made]] = field(repr=False)
    users: list[int]
    losses: list[float] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything measured in one setting: modes, the limit's seconds, and choices made on users not reported."""

    setting: Setting
    measured: list[Measured]
    limits: Limits
    examples_mean: float
    tokens_per_user: float
    distinct_texts: float
    choices: dict[str, float]


class Comparison:
    """One data set with its Bases; `run` measures one setting of it."""

    def __init__(self, source: Source, crowd: Crowd, plan: Plan, out: Path, say: Callable[[str], None]) -> None:
        self.source, self.crowd, self.plan, self.out, self.say = source, crowd, plan, out, say
        parts = dict.fromkeys(part for setting in plan.settings for part in setting.bases)
        wanted = [p for p in parts if any(p in s.bases for s in plan.settings if s.dataset == crowd.dataset)]
        self.bases: dict[str, Trained] = {}
        for part in wanted:
            self.bases[part] = trained(source.base, crowd, part, plan.epochs, out / "bases")
            say(f"{crowd.dataset}: Basis {part}, {self.bases[part].seconds:.0f} s, fresh {self.bases[part].fresh}")

    def run(self, setting: Setting) -> Compared:
        choices: dict[str, float] = {}
        modes = self._modes(setting, choices)
        slices = _slices(self.crowd.reported, setting)
        limits = Limits(self.source, setting, "limit" in self.plan.modes)
        warm = [self.crowd.tuning[0].first(2)]
        for mode in modes:
            if mode.repeat:
                mode.fit(warm)
        cohorts = [[user.first(setting.examples) for user in users] for users in slices]
        limits.choose(cohorts[0])
        turns = [Turn(mode.key, partial(_fit, mode, cohorts), mode.repeat) for mode in modes] + limits.turns(cohorts)
        taken = take_turns(turns, len(slices))
        limits.keep(taken, cohorts, self.plan.clock)
        with every_core():
            judged = self._judged(modes, taken, slices)
        chosen = [example for cohort in cohorts for user in cohort for example in user]
        users = sum(len(cohort) for cohort in cohorts)
        lengths = [len(ids) for ids in limits.tokens([chosen])]
        return Compared(
            setting,
            judged,
            limits,
            len(chosen) / users,
            sum(lengths) / users,
            _distinct(cohorts),
            choices,
        )

    def _modes(self, setting: Setting, choices: dict[str, float]) -> list[Mode]:
        """Ours on every Basis, and the others; `choices` gets what was chosen on users who are not reported."""
        wanted = set(self.plan.modes)
        made = self._peers(setting, choices) if wanted & {"peft", "trainer", "peft-tuned"} else []
        if "head" in wanted:
            floor = Floor(self.source.base, self.crowd, setting.examples)
            choices["ridge"] = floor.ridge
            made.append(Mode("head", floor.fit))
        for part in setting.bases:
            basis = self.bases[part].basis
            steps = self._adam_steps(setting, part) if "adam" in wanted else 1
            choices[f"adam steps, {part}"] = steps
            made.append(ours.generic(basis, part))
            made += ours.modes(self.source.base, basis, part, steps)
        return [mode for mode in made if mode.name in wanted]

    def _adam_steps(self, setting: Setting, part: str) -> int:
        basis, tuning = self.bases[part].basis, self.crowd.tuning
        with every_core():
            steps = best_steps(self.source.base, basis, tuning, setting.examples, FitSettings())
        self.say(f"{setting.dataset}, {setting.examples} examples: Adam on {part} is best after {steps}")
        return steps

    def _peers(self, setting: Setting, choices: dict[str, float]) -> list[Mode]:
        peers.require_peft()
        folder = self.out / "peft" / f"{setting.dataset}-{setting.examples}"
        few = self.crowd.tuning[: setting.peers + 1]
        found = []
        for rate in peers.RATES:
            way = peers.Peers(self.source, self.crowd.labels, folder / f"{rate}", rate)
            with every_core():
                made = way.tuned([user.first(setting.examples) for user in few])
                judged = made.judge([user.held_out for user in few]) if made.judge else []
            found.append((sum(sum(each) / len(each) for each in judged), rate))
        choices["peft rate"] = min(found)[1]
        best = peers.Peers(self.source, self.crowd.labels, folder / "best", min(found)[1])
        return [
            Mode("peft", best.peft, share=setting.peers, repeat=False),
            Mode("peft-tuned", best.tuned, share=setting.peers, repeat=False),
            *([Mode("trainer", best.trainer, share=1, repeat=False)] if setting.trainer else []),
        ]

    def _judged(
        self, modes: Sequence[Mode], taken: Mapping[str, list[Taken[Made]]], slices: Sequence[Sequence[User]]
    ) -> list[Measured]:
        """Each mode with the mean held-out loss of every user it was given, in the order of rounds."""
        found: dict[str, list[float]] = {mode.key: [] for mode in modes}
        for number, users in enumerate(slices):
            held_out = [user.held_out for user in users]
            for part in self.bases:
                mine = {
                    m.key: v
                    for m in modes
                    if m.basis == part
                    if (v := taken[m.key][number].outcome.vectors) is not None
                }
                if mine:
                    judged = losses(self.source.base, self.bases[part].basis, held_out, list(mine.values()))
                    for key, each in zip(mine, judged, strict=True):
                        found[key] += each
            for mode in modes:
                judge = taken[mode.key][number].outcome.judge
                if judge is not None:
                    found[mode.key] += [sum(each) / len(each) for each in judge(held_out[: mode.share])]
        return [Measured(mode, taken[mode.key], _numbers(mode, slices), found[mode.key]) for mode in modes]


def _numbers(mode: Mode, slices: Sequence[Sequence[User]]) -> list[int]:
    """Which of all the rounds' users this mode was given."""
    at, found = 0, []
    for users in slices:
        found += list(range(at, at + len(users[: mode.share])))
        at += len(users)
    return found


def _fit(mode: Mode, cohorts: Sequence[Cohort], number: int) -> Made:
    return mode.fit(cohorts[number][: mode.share])


def _distinct(cohorts: Sequence[Cohort]) -> float:
    """The mean over rounds of the share of different texts."""
    texts = [[example.text for user in cohort for example in user] for cohort in cohorts]
    return sum(len(set(each)) / len(each) for each in texts) / len(texts)


def _slices(users: Sequence[User], setting: Setting) -> list[Sequence[User]]:
    """The users of each round: equally many, and fewer than asked for where there are too few."""
    size = min(setting.cohort, len(users) // setting.rounds)
    return [users[at * size : (at + 1) * size] for at in range(setting.rounds)]
