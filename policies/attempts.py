"""What becomes of a run whose attempt failed, and with how many others it may be tried again.

Theory. A claim is an attempt, unless the Trainer was merely absent or the daemon stopped: such a claim is given back
and counts nothing. What does count is an error (the attempt said what went wrong) or a crash (nobody lived to say it: a
lease ran out, a Trainer was lost). After crashes a run is tried in ever smaller company, and its last chance is always
alone, so that no run is given up for what another one in its cohort did.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from policies.decision import Decision
from policies.facts import InvalidFact, aware, finite, whole

DAY_S = 86_400.0
FULL_TRIES = 2
PAUSES = (
    ("first_pause_s", "longest_pause_s"),
    ("crash_pause_s", "longest_pause_s"),
    ("absent_pause_s", "longest_absent_pause_s"),
)
MOST_DOUBLINGS = 16


class Failure(Enum):
    """What kind of end an attempt came to."""

    ABSENCE = "absence"  # says nothing about the run: no Trainer took it, or the daemon stopped
    ERROR = "error"
    CRASH = "crash"
    HOPELESS = "hopeless"  # the same events would only repeat it


@dataclass(frozen=True, slots=True)
class Tries:
    """How a claimed run fared before this claim. `claims` counts every claim of it, this one too."""

    run: int
    claims: int
    errors: int
    crashes: int

    def __post_init__(self) -> None:
        for name in ("run", "claims", "errors", "crashes"):
            whole(f"Tries.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures a run survives, and how long it rests after one: doubling from the first pause to the longest.

    An absence rests from `absent_pause_s` on, since nothing is wrong with the run; a crash from `crash_pause_s` on,
    since most say nothing of it either, and few are survived.
    """

    max_errors: int = 5
    max_crashes: int = 3
    first_pause_s: float = 10.0
    crash_pause_s: float = 1.0
    longest_pause_s: float = 600.0
    absent_pause_s: float = 1.0
    longest_absent_pause_s: float = 30.0

    def __post_init__(self) -> None:
        whole("Patience.max_errors", self.max_errors, least=2)  # with one, the last chance could not be alone
        whole("Patience.max_crashes", self.max_crashes, least=2)
        for first, longest in PAUSES:
            finite(f"Patience.{longest}", getattr(self, longest), most=DAY_S)
            finite(f"Patience.{first}", getattr(self, first), most=DAY_S)
            if getattr(self, first) > getattr(self, longest):
                raise InvalidFact(f"Patience.{first}", f"{getattr(self, first):g}", f"at most Patience.{longest}")


@dataclass(frozen=True, slots=True)
class Try(Decision):
    """Carry the run out, in a cohort of at most `company` runs."""

    company: int


@dataclass(frozen=True, slots=True)
class Retry(Decision):
    """Queue the run again, to be claimed from `at` on."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Dead(Decision):
    """Give the run up: until somebody asks for it, or enough new events have come, nothing is tried again."""


def before(tries: Tries, patience: Patience, max_users: int) -> Try | Dead:
    """Decide whether a run that was just claimed is carried out, and in what company."""
    whole("max_users", max_users, least=1)
    if tries.crashes >= patience.max_crashes:
        return Dead(f"{tries.crashes} crashes, the last when its lease ran out", "lease_ran_out")
    company = min(
        _company(tries.crashes, patience.max_crashes, max_users), _company(tries.errors, patience.max_errors, max_users)
    )
    return Try(f"{tries.errors} errors and {tries.crashes} crashes before", "tried", company)


def after(failure: Failure, tries: Tries, patience: Patience, now: datetime) -> Retry | Dead:
    """Decide what becomes of a run whose attempt came to this end at `now`."""
    aware("now", now)
    errors = tries.errors + (failure is Failure.ERROR)
    crashes = tries.crashes + (failure is Failure.CRASH)
    told = f"{errors} errors and {crashes} crashes"
    if failure is Failure.HOPELESS:
        return Dead("the same events would fail again", "hopeless")
    if failure is Failure.ABSENCE:
        pause_s = _pause_s(tries, tries.claims, patience.absent_pause_s, patience.longest_absent_pause_s)
        return Retry("no trainer took it", "absent", now + timedelta(seconds=pause_s))
    if errors >= patience.max_errors:
        return Dead(told, "too_many_errors")
    if crashes >= patience.max_crashes:
        return Dead(told, "too_many_crashes")
    first_s, times = patience.first_pause_s, errors + crashes
    if failure is Failure.CRASH:
        first_s, times = patience.crash_pause_s, crashes
    pause_s = _pause_s(tries, times, first_s, patience.longest_pause_s)
    return Retry(told, "failed", now + timedelta(seconds=pause_s))


def _company(failures: int, most: int, max_users: int) -> int:
    """Full, full, half, quarter, ..., alone."""
    if failures >= most - 1:
        return 1
    return max(1, max_users >> max(0, failures - FULL_TRIES + 1))


def _pause_s(tries: Tries, times: int, first_s: float, longest_s: float) -> float:
    """2^(times - 1) first pauses, bounded, and up to a half more that run and claim decide, so that runs spread."""
    doubled = min(longest_s, first_s * float(1 << min(max(0, times - 1), MOST_DOUBLINGS)))
    share = hashlib.sha256(f"{tries.run}:{tries.claims}".encode()).digest()[0] / 255
    return doubled * (1 + share / 2)
