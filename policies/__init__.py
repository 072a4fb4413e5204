"""Decisions as pure functions: frozen facts (and `now`) in, a decision with its reason out. No clock and no I/O."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from policies import access, attempts, cohort, drift, hold, promotion, refit, retention, rollout, selection, trigger
from policies.decision import Decision
from policies.facts import InvalidFact, PolicyError

__all__ = ["Decision", "InvalidFact", "Policies", "PolicyError"]


@dataclass(frozen=True, slots=True)
class Policies:
    """Every decision the daemon asks for. Replace one by passing your own: `Policies(when=mine)`."""

    may: Callable[[frozenset[str], access.Action], access.Allow | access.Deny] = access.may
    when: Callable[[trigger.Activity, trigger.Limits, datetime], trigger.Train | trigger.Wait] = trigger.when
    what: Callable[[Sequence[selection.Candidate], selection.Budget], selection.Selection | selection.NotEnough] = (
        selection.what
    )
    divide: Callable[
        [Sequence[selection.Candidate], selection.Budget, int], selection.Division | selection.NotEnough
    ] = selection.divide
    how: Callable[[selection.Selection, Collection[int], refit.Growth], refit.Refit | refit.Full] = refit.how
    before: Callable[[attempts.Tries, attempts.Patience, int], attempts.Try | attempts.Dead] = attempts.before
    after: Callable[[attempts.Failure, attempts.Tries, attempts.Patience, datetime], attempts.Retry | attempts.Dead] = (
        attempts.after
    )
    pack: Callable[[Sequence[cohort.Load], int, int], tuple[tuple[int, ...], ...]] = cohort.pack
    judge: Callable[[Sequence[promotion.Contender], promotion.Bar], promotion.Promote | promotion.Reject] = (
        promotion.judge
    )
    watch: Callable[[drift.Fresh | None, drift.Watch], drift.Steady | drift.Drifted | drift.RollBack] = drift.watch
    since: Callable[[float, float], drift.BeginAnew | drift.GoOn] = drift.since
    consider: Callable[[hold.Answerable, hold.Doubt], hold.Give | hold.Hold] = hold.consider
    treats: Callable[[str, str, float], bool] = rollout.treats
    conclude: Callable[
        [rollout.Trial, rollout.Rules, datetime], rollout.Continue | rollout.Promote | rollout.RollBack
    ] = rollout.decide
    keep: Callable[[retention.Inventory, retention.Rules, datetime], retention.Keep] = retention.keep
