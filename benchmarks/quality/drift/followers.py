"""Ways to follow a user: from what to learn when a batch of events has come, and what to serve then."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

import plora
from benchmarks.quality.gate import Choice, bias_of, choices
from plora import Engine, Example, Fitted
from plora.examples import encode_all
from plora.passes import passes
from policies.belief import Measured
from policies.drift import BeginAnew, Drifted, Fresh, RollBack, Watch, since, watch

WINDOW = 16


class Way(Enum):
    """Nobody's vector; everything; the last WINDOW events; everything, gated; the product's: gated, watched."""

    GENERIC = "generic"
    ALL = "all"
    WINDOW = "window"
    GATED = "gated"
    WATCHED = "watched"


@dataclass(slots=True)
class State:
    """One user's: events learned from begin at `since`; `vector` serves, `promised` is the loss it promised."""

    vector: Tensor = field(repr=False)
    since: int = 0
    promised: Measured | None = None
    whole: Fitted | None = field(default=None, repr=False)
    rolled_back: list[int] = field(default_factory=list)
    begun_anew: list[int] = field(default_factory=list)
    moves: list[float] = field(default_factory=list)


class Follower:
    """Follows a cohort in one way."""

    def __init__(self, way: Way, engine: Engine, users: int, bar: Watch | None = None) -> None:
        self.way, self._engine, self._bar = way, engine, bar or Watch()
        self.states = [State(torch.zeros(engine.basis.spec.dimensions)) for _ in range(users)]

    def losses(self, examples: Sequence[Sequence[Example]]) -> tuple[list[Tensor], list[Tensor]]:
        """For each user the losses of its examples under what serves now, and under the generic model."""
        counts = [len(each) for each in examples]
        rows = encode_all(self._engine.base, self._engine.basis, [one for each in examples for one in each])
        own = torch.stack([state.vector for state in self.states]).repeat_interleave(torch.tensor(counts), 0)
        with passes(self._engine, rows) as run:
            found = run.losses(own).double(), run.losses(None).double()
        return list(torch.split(found[0], counts)), list(torch.split(found[1], counts))

    def learn(self, seen: Sequence[Sequence[Example]], new: int) -> None:
        """The last `new` of the events `seen` have just come."""
        if self.way is Way.GENERIC:
            return
        if self.way is Way.WATCHED:
            self._watch(seen, new)
        starts = [len(each) - WINDOW if self.way is Way.WINDOW else s.since for each, s in self._pairs(seen)]
        fits = self._fit([each[max(0, start) :] for each, start in zip(seen, starts, strict=True)])
        gated = self.way in (Way.GATED, Way.WATCHED)
        picked = choices(fits) if gated else [Choice.WHOLE] * len(fits)
        for state, fit, choice in zip(self.states, fits, picked, strict=True):
            self._serve(state, fit, choice)

    def _pairs(self, seen: Sequence[Sequence[Example]]) -> list[tuple[Sequence[Example], State]]:
        return list(zip(seen, self.states, strict=True))

    def _fit(self, cohort: Sequence[Sequence[Example]]) -> list[plora.Fitted | plora.FitFailed]:
        return plora.fit(self._engine.base, self._engine.basis, cohort, engine=self._engine)

    def _serve(self, state: State, fit: plora.Fitted | plora.FitFailed, choice: Choice) -> None:
        """A user who is refused keeps what serves now, as in the product."""
        if isinstance(fit, plora.FitFailed) or choice is Choice.NOTHING:
            return
        adapter = fit.adapter if choice is Choice.WHOLE else bias_of(fit)
        scores = fit.left_out if choice is Choice.WHOLE or fit.bias is None else fit.bias.left_out
        if adapter is None or scores is None:
            return
        state.moves.append(self._engine.basis.divergence(adapter.vector, state.vector))
        state.vector = adapter.vector
        losses = torch.tensor(fit.left_out_losses, dtype=torch.float64)
        spread = float(losses.std() / len(losses) ** 0.5) if len(losses) > 1 else math.nan
        state.promised = Measured(scores.personal.nll, spread, scores.examples)

    def _watch(self, seen: Sequence[Sequence[Example]], new: int) -> None:
        """Hold what serves against the events that came since, and let policy decide from where to learn."""
        own, generic = self.losses([each[-new:] for each in seen])
        alarmed = []
        for at, (state, losses, nobody) in enumerate(zip(self.states, own, generic, strict=True)):
            if state.promised is None:
                continue
            gain = _measured(nobody - losses)
            behind = _measured(losses)
            both = math.hypot(0.0 if math.isnan(behind.se) else behind.se, state.promised.se)
            decision = watch(Fresh(gain, Measured(behind.mean - state.promised.mean, both, new)), self._bar)
            if isinstance(decision, RollBack):
                state.vector, state.promised = torch.zeros_like(state.vector), None
                state.rolled_back.append(len(seen[at]))
            if isinstance(decision, RollBack | Drifted):
                alarmed.append(at)
        self._begin_anew(alarmed, seen, new)

    def _begin_anew(self, alarmed: Sequence[int], seen: Sequence[Sequence[Example]], new: int) -> None:
        """Two fits for whoever gave alarm: of everything and of what came since."""
        if not alarmed:
            return
        everything = self._fit([seen[at][self.states[at].since :] for at in alarmed])
        lately = self._fit([seen[at][-new:] for at in alarmed])
        for at, old, fresh in zip(alarmed, everything, lately, strict=True):
            if isinstance(old, plora.FitFailed) or isinstance(fresh, plora.FitFailed):
                continue
            both = [sum(fit.left_out_losses[-new:]) / new for fit in (old, fresh)]
            if isinstance(since(both[0], both[1]), BeginAnew):
                self.states[at].since = len(seen[at]) - new
                self.states[at].begun_anew.append(len(seen[at]))


def _measured(values: Tensor) -> Measured:
    n = len(values)
    return Measured(float(values.mean()), float(values.std() / n**0.5) if n > 1 else math.nan, n)
