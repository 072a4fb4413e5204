"""The half of the Store about all users of a tenant: rollouts, outcomes, and the way back to an instant."""

from collections.abc import Callable, Sequence
from datetime import datetime

from storage import moves, outcomes, returning, rollouts
from storage.outcomes import Counted, NewOutcome, Tally
from storage.returning import Returned
from storage.rollouts import NewRollout, Rollout
from storage.transaction import Transaction
from storage.working import Working


class Rolling(Working):
    """Every method is one transaction, but those that move pointers: these are one for each part of the users."""

    def roll_back_all(self, tenant: str, to: datetime, actor: str, now: datetime) -> int:
        """Serve every user of the tenant what served them at this instant; returns how many pointers were moved.

        Who had nothing then, or whose version of then is not kept any more, is served the generic model. Called again
        after it was cut short, it does the rest.
        """
        narrowed = self.within(tenant)
        return narrowed._in_parts(now, lambda tx, after: returning.to_instant(tx, tenant, to, actor, after))

    def start_rollout(self, tenant: str, wanted: NewRollout, actor: str, now: datetime) -> Rollout:
        """Open a rollout. Raises RolloutOpen, or UnknownTenant."""
        with self._write(now) as tx:
            return rollouts.start(tx, tenant, wanted, actor)

    def end_rollout(self, rollout: int, state: str, why: tuple[str, str], actor: str, now: datetime) -> Rollout:
        """Close an open rollout as promoted, cancelled or returning, for a (code, reason).

        One that is `returning` is to be carried out by `return_rollout`. Raises UnknownRollout, or RolloutEnded.
        """
        with self._write(now) as tx:
            return rollouts.end(tx, rollout, state, why, actor)

    def return_rollout(self, rollout: Rollout, now: datetime) -> int:
        """Serve the control of a rollout that lost to everybody; returns how many pointers were moved.

        Called again after it was cut short, it does the rest.
        """
        narrowed = self.within(rollout.tenant)
        moved = narrowed._in_parts(now, lambda tx, after: returning.to_control(tx, rollout, after))
        with self._write(now) as tx:
            rollouts.returned(tx, rollout.id)
        return moved

    def rollout(self, tenant: str, rollout: int) -> Rollout | None:
        with self._read() as connection:
            return rollouts.get(connection, rollout, tenant)

    def open_rollout(self, tenant: str) -> Rollout | None:
        with self._read() as connection:
            return rollouts.current(connection, tenant)

    def unfinished_rollouts(self) -> Sequence[Rollout]:
        """Of all tenants, those that are open and those whose users are still being moved."""
        with self._read() as connection:
            return rollouts.unfinished(connection)

    def rollouts(self, tenant: str, limit: int = 100) -> list[Rollout]:
        """Newest first."""
        with self._read() as connection:
            return rollouts.listed(connection, tenant, limit)

    def record_outcomes(self, tenant: str, told: Sequence[NewOutcome], now: datetime) -> list[Counted]:
        """Count what became of answers, each answer once; what became of each outcome, in order."""
        with self.within(tenant)._write(now) as tx:
            return outcomes.record(tx, tenant, told)

    def outcome_means(self, rollout: int, first: int) -> list[tuple[str, float]]:
        """(arm, mean of the first so many outcomes) of each user who has so many, in the order in which they had."""
        with self._read() as connection:
            return outcomes.means(connection, rollout, first)

    def outcome_tallies(self, rollout: int) -> list[Tally]:
        """What there is of each arm."""
        with self._read() as connection:
            return outcomes.tallies(connection, rollout)

    def prune_history(self, before: datetime, now: datetime) -> int:
        """Delete moves and outcomes from before this time, but what tells who was served what since. How many."""
        with self._write(now) as tx:
            return moves.prune(tx.connection, before) + outcomes.prune(tx.connection, before)

    def _in_parts(self, now: datetime, move: Callable[[Transaction, str], Returned]) -> int:
        moved, after = 0, ""
        while True:
            with self._write(now) as tx:
                done = move(tx, after)
            moved += done.moved
            if done.after is None:
                return moved
            after = done.after
