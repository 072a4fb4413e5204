"""When a user is due for a training run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from policies.decision import Decision
from policies.facts import InvalidFact, aware, finite, whole

YEAR_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Activity:
    """One user's counts and times. `fresh` events came after the latest run had looked; `total` includes them."""

    consented: bool
    fresh: int
    total: int
    has_open_run: bool
    last_run_at: datetime | None
    last_event_at: datetime | None
    runs_today: int  # opened since 00:00 UTC
    basis_ready: bool
    forgotten: bool
    dead: bool = False  # the latest run was given up, and nobody asked for it since
    oldest_fresh_at: datetime | None = (
        None  # if unknown, `last_event_at` stands in: a wait at most as long as the true one
    )

    def __post_init__(self) -> None:
        whole("Activity.fresh", self.fresh)
        whole("Activity.total", self.total)
        whole("Activity.runs_today", self.runs_today)
        if self.fresh > self.total:
            raise InvalidFact("Activity.fresh", str(self.fresh), f"at most Activity.total, {self.total}")
        aware("Activity.last_run_at", self.last_run_at)
        aware("Activity.last_event_at", self.last_event_at)
        aware("Activity.oldest_fresh_at", self.oldest_fresh_at)

    @property
    def waiting_since(self) -> datetime | None:
        """Since when at least one fresh event has waited."""
        return self.oldest_fresh_at or self.last_event_at


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a user may be trained."""

    min_fresh: int = 8
    cooldown_s: float = 60.0  # between the opening of two runs
    max_runs_per_day: int = 48  # per UTC day
    max_wait_s: float | None = None  # None: a few fresh events may wait for ever
    min_total: int = 8  # `max_wait_s` counts only for a user with so many events
    min_fresh_dead: int = 32  # after a run was given up: what failed may lie in the events, so it takes more new ones

    def __post_init__(self) -> None:
        whole("Limits.min_fresh", self.min_fresh, least=1)
        finite("Limits.cooldown_s", self.cooldown_s, most=YEAR_S)
        whole("Limits.max_runs_per_day", self.max_runs_per_day, least=1)
        whole("Limits.min_total", self.min_total, least=1)
        whole("Limits.min_fresh_dead", self.min_fresh_dead, least=1)
        if self.max_wait_s is not None:
            finite("Limits.max_wait_s", self.max_wait_s, most=YEAR_S)


@dataclass(frozen=True, slots=True)
class Train(Decision):
    """Open a run."""


@dataclass(frozen=True, slots=True)
class Wait(Decision):
    """Open none. With unchanged facts this stays the answer before `until`; None: until the facts change."""

    until: datetime | None = None


def when(activity: Activity, limits: Limits, now: datetime) -> Train | Wait:
    """Decide whether `activity` is worth a training run at `now`."""
    aware("now", now)
    barred = _barred(activity)
    if barred is not None:
        return barred
    due = _due(activity, limits, now)
    if isinstance(due, Wait):
        return due
    return _paced(activity, limits, now) or due


def _barred(activity: Activity) -> Wait | None:
    """What no passing of time cures."""
    if activity.forgotten:
        return Wait("the user was forgotten", "forgotten")
    if not activity.consented:
        return Wait("the user has not consented", "not_consented")
    if activity.has_open_run:
        return Wait("a run is open already", "open_run")
    if not activity.basis_ready:
        return Wait("no basis is ready yet", "no_basis")
    return None


def _due(activity: Activity, limits: Limits, now: datetime) -> Train | Wait:
    """Whether there is enough that is new."""
    if activity.dead and activity.fresh < limits.min_fresh_dead:
        few = f"the latest run was given up; {activity.fresh} of {limits.min_fresh_dead} fresh events since"
        return Wait(few, "dead_letter")
    if activity.fresh >= limits.min_fresh:
        return Train(f"{activity.fresh} fresh events", "enough_fresh")
    few = f"{activity.fresh} of {limits.min_fresh} fresh events"
    since = activity.waiting_since
    if limits.max_wait_s is None or since is None or activity.fresh < 1 or activity.total < limits.min_total:
        return Wait(few, "too_few_fresh")
    until = since + timedelta(seconds=limits.max_wait_s)
    if now < until:
        return Wait(few, "too_few_fresh", until)
    return Train(f"{few}, but one has waited for {limits.max_wait_s:g} s", "waited_long")


def _paced(activity: Activity, limits: Limits, now: datetime) -> Wait | None:
    """What keeps a busy user from taking every trainer."""
    if activity.last_run_at is not None:
        until = activity.last_run_at + timedelta(seconds=limits.cooldown_s)
        if now < until:
            return Wait(f"the latest run is less than {limits.cooldown_s:g} s old", "cooling_down", until)
    if activity.runs_today >= limits.max_runs_per_day:
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return Wait(
            f"{activity.runs_today} of {limits.max_runs_per_day} runs of the day are spent", "quota_spent", midnight
        )
    return None
