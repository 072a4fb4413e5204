"""Which arm of a rollout answers for a user, and when what became of the answers decides it.

Two arms: the treatment is what is current, the control what it is held against. Arms are drawn by hashing, so a user
stays in theirs, and nobody's arm depends on what they are like. Each user counts once, with the mean of their first few
outcomes: a loud user weighs no more than a quiet one, and what was counted does not change later.

With p the treatment's share, y a user's mean and m the mean of all before, s (y - m) with s = 1/p in the treatment and
-1/(1 - p) in the control is an unbiased draw of the effect, since s has mean 0 whoever the user is. Over these draws
runs an empirical Bernstein confidence sequence (Waudby-Smith and Ramdas 2024, theorem 2). It holds at all times at
once: looking after every outcome, and stopping when it looks good, is no error.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from policies.decision import Decision
from policies.facts import InvalidFact, aware, finite, share, whole

MOST_S = 366 * 86_400.0
BOLDEST = 0.5
"""The most that is staked on one draw: a share of what would ruin."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a rollout is decided: a rollout's own choice, kept with it.

    The treatment is to be better by more than `least_gain`, which may be negative: so much loss is put up with.
    """

    least_users: int = 30  # of each arm
    outcomes_per_user: int = 3
    least_gain: float = 0.0
    error: float = 0.05
    longest_s: float = 1_209_600.0
    undecided: Literal["promote", "roll_back"] = "promote"  # at the end of that time

    def __post_init__(self) -> None:
        whole("Rules.least_users", self.least_users, least=1, most=1_000_000)
        whole("Rules.outcomes_per_user", self.outcomes_per_user, least=1, most=1_000)
        finite("Rules.least_gain", self.least_gain, least=-1.0, most=1.0)
        share("Rules.error", self.error)
        finite("Rules.longest_s", self.longest_s, least=1.0, most=MOST_S)
        if self.undecided not in {"promote", "roll_back"}:
            raise InvalidFact("Rules.undecided", repr(self.undecided), "promote or roll_back")


@dataclass(frozen=True, slots=True)
class Seen:
    """The mean of one user's first outcomes, each from 0 to 1."""

    treated: bool
    value: float

    def __post_init__(self) -> None:
        finite("Seen.value", self.value, most=1.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """An open rollout: the treatment's share, since when, and who was counted, in the order in which they were."""

    share: float
    started_at: datetime
    seen: Sequence[Seen] = ()

    def __post_init__(self) -> None:
        share("Trial.share", self.share)
        aware("Trial.started_at", self.started_at)


@dataclass(frozen=True, slots=True)
class Effect:
    """How much better the treatment is, on the scale of outcomes: surely between `low` and `high`."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Continue(Decision):
    """It is not decided yet."""


@dataclass(frozen=True, slots=True)
class Promote(Decision):
    """The treatment serves everybody."""


@dataclass(frozen=True, slots=True)
class RollBack(Decision):
    """The control serves everybody."""


def treats(user: str, salt: str, part: float) -> bool:
    """Whether `user` is in the treatment, which has this part of all. Another salt draws anew."""
    drawn = int.from_bytes(hashlib.sha256(f"{salt}\n{user}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return drawn < part * 2**64


def decide(trial: Trial, rules: Rules, now: datetime) -> Continue | Promote | RollBack:
    """Decide for the arm that is surely better, or by the rule for the undecided when the time is over."""
    aware("now", now)
    treated = sum(each.treated for each in trial.seen)
    fewest = min(treated, len(trial.seen) - treated)
    found = effect(trial, rules.error)
    if fewest >= rules.least_users:
        told = f"the gain is between {found.low:+.3f} and {found.high:+.3f} on {len(trial.seen)} users"
        if found.low > rules.least_gain:
            return Promote(f"{told}: more than {rules.least_gain:+.3f}", "surely_better")
        if found.high < rules.least_gain:
            return RollBack(f"{told}: less than {rules.least_gain:+.3f}", "surely_not_better")
    if now >= trial.started_at + timedelta(seconds=rules.longest_s):
        sentence = f"undecided after {rules.longest_s:g} s and {len(trial.seen)} users, {fewest} in the smaller arm"
        if rules.undecided == "promote":
            return Promote(sentence, "time_over")
        return RollBack(sentence, "time_over")
    if fewest < rules.least_users:
        return Continue(f"{fewest} of {rules.least_users} users in the smaller arm", "too_few_users")
    return Continue(f"the gain is between {found.low:+.3f} and {found.high:+.3f}", "undecided")


def effect(trial: Trial, error: float) -> Effect:
    """What is known of the treatment's gain: between -1 and 1, and at no time wrong but with chance `error`."""
    bound = max(1 / trial.share, 1 / (1 - trial.share))  # of a draw
    width = 2 * bound
    needed = math.log(2 / error)
    low, high = -1.0, 1.0
    total, centre, spread = 0.0, 0.5, 0.25  # of values before; mean and squares of draws before, scaled to 0..1
    stakes = staked = paid = sums = 0.0
    for count, each in enumerate(trial.seen, 1):
        before = (0.5 + total) / count
        weight = 1 / trial.share if each.treated else -1 / (1 - trial.share)
        drawn = (weight * (each.value - before) + bound) / width
        stake = min(BOLDEST, math.sqrt(2 * needed / (spread * count * math.log(1 + count))))
        stakes += stake
        staked += stake * drawn
        paid += (drawn - centre) ** 2 * (-math.log1p(-stake) - stake)
        middle, reach = staked / stakes, (needed + paid) / stakes
        low = max(low, (middle - reach) * width - bound)
        high = min(high, (middle + reach) * width - bound)
        total += each.value
        sums += drawn
        centre = (0.5 + sums) / (count + 1)
        spread = (spread * count + (drawn - centre) ** 2) / (count + 1)
    mean = 0.0 if not stakes else staked / stakes * width - bound
    return Effect(max(-1.0, min(1.0, mean)), low, max(low, high))
